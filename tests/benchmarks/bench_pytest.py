"""What pytest itself pays, in time and in memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Medians, Table

Run = Callable[..., None]

QUIET = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:timeout"]
WITHOUT = ["-p", "no:vdsotime"]

EMPTY = "def test_nothing(): pass"
PROGRAMS = """
import subprocess
from pathlib import Path

def hold_programs(popen):
    programs = [popen(["sleep", "1000"]) for _ in range(100)]
    Path("status").write_text(Path("/proc/self/status").read_text())
    for program in programs:
        program.kill()
        program.wait()

def test_bare():
    hold_programs(subprocess.Popen)

def test_ours(frozen_clock):
    hold_programs(frozen_clock.popen)
"""

#: Each kind in turn, and how long each takes in all, from its set-up to its teardown.
EACH = """
import json, statistics, subprocess, time
from pathlib import Path
import pytest

@pytest.fixture(autouse=True)
def whole(request):
    began = time.perf_counter()
    yield
    took.setdefault(request.node.callspec.params["kind"], []).append(time.perf_counter() - began)
    medians = {kind: statistics.median(all) for kind, all in took.items()}
    Path("took").write_text(json.dumps(medians))

took = {}
@pytest.mark.parametrize("kind", ["nothing", "clock", "bare date", "date"])
@pytest.mark.parametrize("round", range(60))
def test_each(kind, round, request):
    if kind == "bare date":
        subprocess.run(["date"], stdout=subprocess.DEVNULL)
    elif kind != "nothing":
        clock = request.getfixturevalue("frozen_clock")
        if kind == "date":
            clock.run(["date"], stdout=subprocess.DEVNULL)
"""


@pytest.fixture
def run_pytest(tmp_path: Path) -> Run:
    """`run_pytest(test, option...)` runs a file with that test in it."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(test: str, *options: str) -> None:
        (tmp_path / "test_one.py").write_text(test)
        command = [sys.executable, "-m", "pytest", *QUIET, *options, "test_one.py"]
        subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, check=True)

    return run


def test_start(run_pytest: Run, table: Table, medians: Medians) -> None:
    """In CPU time: it is steadier than the clock on the wall, and the plugin does not wait."""

    def milliseconds(*options: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_pytest(EMPTY, *options)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e3

    bare, ours = medians(lambda: milliseconds(*WITHOUT), milliseconds, rounds=60)
    figures = f"{ours:.1f} / {bare:.1f} ms of CPU"
    table.check("pytest with the plugin unused, more", figures, ours - bare, 5, " ms")


def test_one_test(run_pytest: Run, table: Table, tmp_path: Path) -> None:
    """The fixture, made and closed; and with one program."""
    run_pytest(EACH)
    took = {kind: s * 1e3 for kind, s in json.loads((tmp_path / "took").read_text()).items()}
    figures = f"{took['clock']:.2f} / {took['nothing']:.2f} ms"
    table.check(
        "frozen_clock and no program, more", figures, took["clock"] - took["nothing"], 1, " ms"
    )
    figures = f"{took['date']:.2f} / {took['bare date']:.2f} ms bare"
    table.check("a test that starts one date", figures, took["date"], 5, " ms")


def test_memory(run_pytest: Run, table: Table, medians: Medians, tmp_path: Path) -> None:
    def megabytes(*options: str) -> float:
        run_pytest(PROGRAMS, *options)
        return int((tmp_path / "status").read_text().partition("VmRSS:")[2].split()[0]) / 1024

    bare, ours = medians(lambda: megabytes("-k", "bare", *WITHOUT), lambda: megabytes("-k", "ours"))
    figures = f"{ours:.1f} / {bare:.1f} MB"
    table.check("pytest with a clock and 100 programs, more", figures, ours - bare, 20, " MB")
