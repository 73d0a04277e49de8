"""A real redis-server forgets a key after five minutes that take a second."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_vdsotime import FrozenClock

Ask = Callable[..., str]


@pytest.fixture
def redis(frozen_clock: FrozenClock, tmp_path: Path) -> Iterator[Ask]:
    """Starts a server on the test's clock; `redis("GET", "k")` is what redis-cli would print."""
    socket = tmp_path / "redis.sock"
    server = frozen_clock.popen(
        ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", tmp_path],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    for line in server.stdout:
        if "ready to accept connections" in line:
            break

    def ask(*command: str) -> str:
        return subprocess.check_output(["redis-cli", "-s", socket, *command], text=True).strip()

    yield ask
    ask("SHUTDOWN")
    server.communicate()


@pytest.mark.frozen_time("1970-01-01")
def test_session_expires(frozen_clock: FrozenClock, redis: Ask) -> None:
    assert redis("SET", "k", "v", "EX", "300") == "OK"
    frozen_clock.advance(minutes=5)
    assert redis("GET", "k") == "v"  # through the last millisecond of its time
    frozen_clock.advance(milliseconds=1)
    assert redis("GET", "k") == ""
