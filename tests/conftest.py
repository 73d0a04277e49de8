"""What tests of several folders share: PostgreSQL, which takes some starting, and examples."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.kernel.ptrace import Stopped, seize

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


#: Set by `make stress`.
IS_STRESS = "VDSOTIME_STRESS" in os.environ


@pytest.fixture(scope="session")
def tries() -> Callable[[int], int]:
    """`tries(count)` is how often something is done that may go wrong by chance: `count` times in
    `make stress`, else a quarter of that."""
    return lambda count: count if IS_STRESS else count // 4


Check = Callable[..., None]

#: Seconds for which each test goes on with further examples: `make fuzz`.
FUZZ_S = float(os.environ.get("VDSOTIME_FUZZ_S", "0"))
#: What one example may take: processor time, which a busy machine makes no longer, and memory.
MAX_BUSY_S, MAX_MORE_BYTES = 5, 256 * 1024 * 1024


@contextmanager
def bounded() -> Iterator[None]:
    """A loop without end, and memory without a bound, are errors of what is called."""

    def is_up(*_: object) -> None:
        pytest.fail(f"it takes more than {MAX_BUSY_S} s of processor time", pytrace=True)

    before = signal.signal(signal.SIGVTALRM, is_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_BUSY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def little_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert used
    resource.setrlimit(resource.RLIMIT_DATA, (int(used[1]) * 1024 + MAX_MORE_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a long run of examples no test is a part that has none, and none has a limit of its
    own."""
    if FUZZ_S:
        items[:] = [one for one in items if "examples" in getattr(one, "fixturenames", ())]
        for one in items:
            one.add_marker(pytest.mark.timeout(0), append=False)


@pytest.fixture
def executed() -> Iterator[Stopped]:
    """A program at its exec event."""
    with subprocess.Popen(["sh", "-c", "read go; exec true"], stdin=subprocess.PIPE) as program:
        seize(program.pid)
        assert program.stdin
        program.stdin.write(b"\n")
        program.stdin.flush()
        os.waitpid(program.pid, 0)
        yield Stopped(program.pid)
        program.kill()


@pytest.fixture
def examples() -> Callable[..., Callable[[Check], None]]:
    """`@examples(strategy, ..., count=50)` calls the function below it with as many examples: the
    same in every run. With VDSOTIME_FUZZ_S it goes on with others for so many seconds."""

    def called_with(
        *strategies: st.SearchStrategy[Any], count: int = 50
    ) -> Callable[[Check], None]:
        own = settings(
            database=None,
            deadline=None,
            derandomize=not FUZZ_S,
            max_examples=count,
            suppress_health_check=[*HealthCheck],
        )

        def check_all(check: Check) -> None:
            def check_one(values: tuple[Any, ...]) -> None:
                with bounded():
                    check(*values)

            until = time.monotonic() + FUZZ_S
            while True:
                function = own(given(st.tuples(*strategies))(check_one))
                if FUZZ_S:
                    function = seed(int.from_bytes(os.urandom(8)))(function)
                with little_memory():
                    function()
                if time.monotonic() >= until:
                    return

        return check_all

    return called_with
