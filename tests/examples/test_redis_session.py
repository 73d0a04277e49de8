"""A session in redis is over after an hour, which takes no hour."""

import subprocess
from pathlib import Path
from subprocess import PIPE

from pytest_vdsotime import FrozenClock


def test_session_expires(frozen_clock: FrozenClock, tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    # By itself it wakes ten times a second to look after its keys, and does so in our hour too.
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path), "--hz", "1"]
    server = frozen_clock.popen(["redis-server", *options], stdout=PIPE, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        if "ready to accept connections" in line:
            break

    def redis(*command: str) -> str:
        """The client stays in real time: when a key expires is the server's to know."""
        return subprocess.check_output(["redis-cli", "-s", socket, *command], text=True).strip()

    assert redis("SET", "session", "alice", "EX", "3600") == "OK"
    frozen_clock.advance(minutes=59)
    assert redis("TTL", "session") == "60"
    assert redis("GET", "session") == "alice"
    frozen_clock.advance(minutes=1, seconds=1)
    assert redis("GET", "session") == ""
    redis("SHUTDOWN", "NOSAVE")
    server.communicate()
