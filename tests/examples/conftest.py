"""What the examples take for granted: programs that are installed, and in PATH."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

collect_ignore = ["servers"]  # test_session_servers.py runs it

PROGRAMS = {
    "test_certificate": ["curl", "nginx", "openssl"],
    "test_cron_month": ["cron", "unshare"],
    "test_redis_session": ["redis-cli", "redis-server"],
    "test_session_servers": ["redis-server"],
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


@pytest.fixture
def pg_ctl(real_program: Callable[[str], str], tmp_path: Path) -> Callable[[], str]:
    """`pg_ctl()` is the path of PostgreSQL's pg_ctl, which does not want to be root: there it is
    one that becomes nobody, who may go where the data of a test lies."""

    def find() -> str:
        path = str(Path(real_program("/usr/lib/postgresql/*/bin/postgres")).with_name("pg_ctl"))
        if os.geteuid() != 0:
            return path
        rights = "--inh-caps=+dac_override --ambient-caps=+dac_override"
        user = f"--reuid=65534 --regid=65534 --clear-groups {rights}"
        script = tmp_path / "pg_ctl"
        script.write_text(f'#!/bin/sh\nexec {real_program("setpriv")} {user} {path} "$@"\n')
        script.chmod(0o755)
        return str(script)

    return find
