"""What tests of several folders share: PostgreSQL, which takes some starting."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock

NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
CEILING_S = 30  # of real time


class Postgres:
    """A server that runs as nobody on `clock`, in a directory of its own.

    `environment` is what psql and other clients need to find it.
    """

    def __init__(self, clock: FrozenClock, programs: Path, directory: Path) -> None:
        self._clock = clock
        self._home = directory / "postgres"
        self._home.mkdir()
        shutil.chown(self._home, NOBODY["user"], NOBODY["group"])
        self._keywords = {**NOBODY, "cwd": self._home}
        self.environment = {
            **{"PGHOST": str(self._home), "PGUSER": "test", "PGDATABASE": "postgres"},
            "PATH": f"{programs}:{os.environ['PATH']}",
        }
        data = str(self._home / "data")
        options = ["--auth=trust", "--username=test", "--no-locale", "--encoding=UTF8", "--no-sync"]
        subprocess.run(
            [programs / "initdb", "-D", data, *options],
            **self._keywords,
            check=True,
            stdout=PIPE,
            timeout=CEILING_S,
        )
        command: list[str | Path] = [
            programs / "postgres",
            "-D",
            data,
            "-k",
            self._home,
            "-h",
            "",
            "-F",
        ]
        self.server = clock.popen(command, **self._keywords, stderr=PIPE, text=True)
        assert self.server.stderr
        for line in self.server.stderr:
            if "ready to accept connections" in line:
                break
        else:
            pytest.fail("postgres does not start")

    def ask(self, *queries: str) -> subprocess.Popen[str]:
        """A client that asks and prints the answers; as the server, it is on the clock."""
        commands = [word for query in queries for word in ("-c", query)]
        return self._clock.popen(
            ["psql", "-XAtq", *commands],
            **self._keywords,
            env=self.environment,
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
        )

    def answer(self, *queries: str) -> str:
        with self.ask(*queries) as client:
            return client.communicate(timeout=CEILING_S)[0]

    def close(self) -> None:
        self.server.send_signal(signal.SIGINT)  # a fast shutdown
        assert self.server.wait(CEILING_S) == 0
        assert self.server.stderr
        self.server.stderr.close()


@pytest.fixture
def start_postgres(
    real_program: Callable[[str], str], public_dir: Path
) -> Iterator[Callable[[FrozenClock], Postgres]]:
    """`start_postgres(clock)` is a server that is ready, and shut down before its clock is closed
    if this is the last of the fixtures."""
    programs = Path(real_program("/usr/lib/postgresql/*/bin/postgres")).parent

    with ExitStack() as servers:

        def start(clock: FrozenClock) -> Postgres:
            server = Postgres(clock, programs, public_dir)
            servers.callback(server.close)
            return server

        yield start
