"""What pytest itself pays, in time and in memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Medians, Table, Timed

Run = Callable[..., None]

QUIET = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:timeout"]
WITHOUT = ["-p", "no:vdsotime"]

EMPTY = "def test_nothing(): pass"
#: Tests in a file, and what they do.
MANY = """
import subprocess
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_one(number{fixture}):
    {body}
"""
FROZEN = ["--vdso-time=2030-01-01"]
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
        "frozen_clock and no program, more", figures, took["clock"] - took["nothing"], 0.1, " ms"
    )
    figures = f"{took['date']:.2f} / {took['bare date']:.2f} ms bare"
    table.check("a test that starts one date", figures, took["date"], 5, " ms")


def test_empty_tests(run_pytest: Run, table: Table, medians: Medians) -> None:
    """What a test costs more that starts nothing: a thousand of them, without what one costs."""
    few, many = (MANY.format(count=count, fixture="", body="pass") for count in (1, 1001))
    named = MANY.format(count=1001, fixture=", frozen_clock", body="pass")

    def milliseconds(test: str, *options: str) -> float:
        began = time.perf_counter()
        run_pytest(test, *options)
        return (time.perf_counter() - began) * 1e3

    bare_few, bare, ours_few, frozen, fixture = medians(
        lambda: milliseconds(few, *WITHOUT),
        lambda: milliseconds(many, *WITHOUT),
        lambda: milliseconds(few, *FROZEN),
        lambda: milliseconds(many, *FROZEN),
        lambda: milliseconds(named),
    )
    each = (bare - bare_few) / 1000
    for what, took in (("under --vdso-time", frozen), ("with frozen_clock", fixture)):
        ours = (took - ours_few) / 1000
        table.check(f"an empty test {what}, more", f"{ours:.3f} / {each:.3f} ms", ours - each, 0.1)


def test_suites_of_programs(run_pytest: Run, table: Table, medians: Medians) -> None:
    """200 tests that start one program each, pytest's own start included."""
    source = MANY.format(count=200, fixture="", body='subprocess.run(["true"])')
    named = MANY.format(count=200, fixture=", frozen_clock", body='frozen_clock.run(["true"])')

    def seconds(test: str, *options: str) -> float:
        began = time.perf_counter()
        run_pytest(test, *options)
        return time.perf_counter() - began

    bare, frozen, fixture = medians(
        lambda: seconds(source, *WITHOUT),
        lambda: seconds(source, *FROZEN),
        lambda: seconds(named),
    )
    for what, took in (("under --vdso-time", frozen), ("with frozen_clock", fixture)):
        figures = f"{took:.3f} / {bare:.3f} s"
        table.check(f"200 tests of one `true` {what}", figures, took / bare, 1.5)


def test_command(table: Table, medians: Medians, timed: Timed) -> None:
    command = [sys.executable, "-m", "pytest_vdsotime", "--", "true"]
    bare, ours = medians(
        timed(lambda: subprocess.run(["true"], check=True)),
        timed(lambda: subprocess.run(command, check=True)),
    )
    table.check("`vdsotime -- true`", f"{ours * 1e3:.0f} / {bare * 1e3:.1f} ms", ours, 0.12, " s")


def test_memory(run_pytest: Run, table: Table, medians: Medians, tmp_path: Path) -> None:
    def megabytes(*options: str) -> float:
        run_pytest(PROGRAMS, *options)
        return int((tmp_path / "status").read_text().partition("VmRSS:")[2].split()[0]) / 1024

    bare, ours = medians(lambda: megabytes("-k", "bare", *WITHOUT), lambda: megabytes("-k", "ours"))
    figures = f"{ours:.1f} / {bare:.1f} MB"
    table.check("pytest with a clock and 100 programs, more", figures, ours - bare, 20, " MB")
