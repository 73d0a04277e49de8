"""Your sleepy suite in a fraction of its time: test suites of others, bare and under autojump.

One row a suite: how long it takes bare, how long by `vdsotime --autojump`, its own start included,
and how the two compare. Both must end with the same outcome of every test. A suite takes minutes
where the other benchmarks take milliseconds, so each runs a few times, not `LEAST_ROUNDS`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import pytest

import outcomes
import suites
from outcomes import Outcomes, Reader

if TYPE_CHECKING:
    from conftest import Builder
    from tests.benchmarks.conftest import Table

ROUNDS = 3
LIMIT_S = 300
NEVER_SLOWER = 2.0
START_S = 0.5
AUTOJUMP = [sys.executable, "-m", "pytest_vdsotime", "--autojump", "--"]

#: Modules of test_asyncio that wait; the others compute.
ASYNCIO = """
    test_events test_locks test_queues test_subprocess test_timeouts test_unix_events test_waitfor
"""

# name: arguments of `python -m test`, and what part of its bare time it may take at most.
CPYTHON: Mapping[str, tuple[Sequence[str], float]] = {
    "test_selectors": (["test_selectors"], 0.2),
    "test_threading": (["test_threading"], NEVER_SLOWER),
    "test_queue": (["test_queue"], NEVER_SLOWER),
    "test_asyncio": (
        ["test_asyncio", *(f"-mtest.test_asyncio.{module}.*" for module in ASYNCIO.split())],
        NEVER_SLOWER,
    ),
    "test_subprocess": (["test_subprocess"], NEVER_SLOWER),
}
GO = ["time", "context"]


class Run(NamedTuple):
    """What a run of a suite came to."""

    took_s: float
    status: int
    outcomes: Outcomes
    output: str


@dataclass
class Suite:
    """A suite, to be run both ways."""

    command: Sequence[str]
    """`DIRECTORY` in its words is the empty directory of the run."""
    read: Reader
    directory: Path
    cwd: Path | None = None
    started: int = field(default=0, init=False)

    def run(self, before: Sequence[str] = ()) -> Run:
        self.started += 1
        directory = self.directory / str(self.started)
        directory.mkdir()
        words = [word.replace("DIRECTORY", str(directory)) for word in self.command]
        began_s = time.perf_counter()
        done = subprocess.run(
            [*before, *words],
            cwd=self.cwd or directory,
            env={**os.environ, "HOME": str(directory), "TMPDIR": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
        took_s = time.perf_counter() - began_s
        output = done.stdout.decode(errors="backslashreplace")
        return Run(took_s, done.returncode, self.read(output, directory), output)

    def compare(self, name: str, bar: float, table: Table) -> None:
        """Adds its row; fails where a test's outcome differs, or it takes too long."""
        bare_runs, our_runs = [], []
        for _ in range(ROUNDS):
            bare_runs.append(self.run())
            our_runs.append(self.run(AUTOJUMP))
        for bare, ours in zip(bare_runs, our_runs, strict=True):
            assert bare.outcomes, bare.output
            assert (ours.status, ours.outcomes) == (bare.status, bare.outcomes), ours.output
        bare_s, our_s = (median(run.took_s for run in runs) for runs in (bare_runs, our_runs))
        what, figures = f"{name} under autojump, against bare", f"{our_s:.1f} / {bare_s:.1f} s"
        if bare_s < START_S:  # it is the start of vdsotime itself that is seen
            table.add(what, figures, our_s / bare_s)
        else:
            table.check(what, figures, our_s / bare_s, bar)


pytestmark = pytest.mark.timeout(2 * ROUNDS * LIMIT_S)


@pytest.mark.parametrize("name", CPYTHON)
def test_cpython(name: str, table: Table, tmp_path: Path) -> None:
    if not os.path.exists(suites.PYTHON_TESTS):
        pytest.fail(f"{suites.PYTHON_TESTS} is missing: apt-get install libpython3.11-testsuite")
    arguments, bar = CPYTHON[name]
    command = suites.cpython_command(list(arguments))
    Suite(command, outcomes.read_junit, tmp_path).compare(f"CPython's {name}", bar, table)


@pytest.mark.parametrize("package", GO)
def test_go(package: str, build: Builder, table: Table, tmp_path: Path) -> None:
    """The standard library's own tests, started where `go test` starts them."""
    root = subprocess.check_output([build.go_tool(), "env", "GOROOT"], text=True).strip()
    command = [build.go_tests(package), "-test.v", "-test.short"]
    suite = Suite(command, outcomes.read_go, tmp_path, cwd=Path(root, "src", package))
    suite.compare(f"Go's {package}", NEVER_SLOWER, table)
