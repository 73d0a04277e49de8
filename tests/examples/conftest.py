"""What the examples take for granted: programs that are installed, and in PATH."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

PROGRAMS = {
    "test_certificate": ["curl", "nginx", "openssl"],
    "test_cron_month": ["cron", "unshare"],
    "test_redis_session": ["redis-cli", "redis-server"],
    "test_shell_timeout": ["timeout"],
}


@pytest.fixture(autouse=True)
def installed(
    request: pytest.FixtureRequest,
    real_program: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an example starts is there; an ordinary user's PATH may lack that of servers."""
    for name in PROGRAMS.get(request.path.stem, ()):
        real_program(name)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")
