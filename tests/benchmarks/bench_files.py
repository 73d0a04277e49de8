"""Time stamps of files that follow the clock, against the host's own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Medians, Table, Timed

SOURCES = Path(__file__).parent


MACHINES = [platform.machine(), *(["x86"] if platform.machine() == "x86_64" else [])]
"""zig's names for them."""


@pytest.fixture(scope="module", params=MACHINES, ids=lambda machine: machine)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stat") / str(request.param)
    compile_for(request.param, "stat_loop.c", path)
    return path


@pytest.fixture(scope="module")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stat") / "stat_tracer"
    compile_for(platform.machine(), "stat_tracer.c", path)
    return path


def compile_for(machine: str, source: str, path: Path) -> None:
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-musl"]
    subprocess.run([*compiler, "-static", "-O2", "-o", path, SOURCES / source], check=True)


@pytest.fixture
def real() -> Iterator[FrozenClock]:
    with FrozenClock("2038-01-19") as clock:
        yield clock


@pytest.fixture
def following() -> Iterator[FrozenClock]:
    """Its history is longer than what programs find by themselves."""
    with FrozenClock("2038-01-19", files="follow") as clock:
        yield clock


@pytest.fixture(params=["all", "one"])
def processors(request: pytest.FixtureRequest) -> Iterator[str]:
    """Between two, of which one idles, a stop is as long as it takes to wake that up."""
    before = os.sched_getaffinity(0)
    yield request.param
    set_affinity(before)


def set_affinity(processors: set[int]) -> None:
    for tid in map(int, os.listdir("/proc/self/task")):
        os.sched_setaffinity(tid, processors)


@pytest.mark.parametrize("moves", [0, 1000], ids=["", "moved"])
@pytest.mark.parametrize("way", ["stat", "lstat", "fstat", "statx"])
def test_a_stat(
    *,
    way: str,
    moves: int,
    processors: str,
    program: Path,
    tracer: Path,
    real: FrozenClock,
    following: FrozenClock,
    tmp_path: Path,
    table: Table,
    medians: Medians,
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for _ in range(moves):
        following.advance(1)
    following.run(["true"], check=True)  # its tracer runs
    if processors == "one":
        set_affinity({min(os.sched_getaffinity(0))})
    second = float(subprocess.check_output([program]))
    command = [str(program), way, str(file)]
    bare, floor, host, ours = (
        ticks / second * 1e6
        for ticks in medians(
            lambda: float(subprocess.check_output(command)),
            lambda: float(subprocess.check_output([tracer, *command])),
            lambda: float(real.check_output(command)),
            lambda: float(following.check_output(command)),
        )
    )
    older = ", of a file from before 1,000 moves" if moves else ""
    older += " (32 bits)" if program.name == "x86" else ""
    older += ", on one processor" if processors == "one" else ""
    figures = f"{ours:.1f} / {bare:.2f} µs"
    if program.name == platform.machine():
        figures = f"{ours:.1f} / {floor:.1f} / {bare:.2f} µs"
        table.add(f"{way}{older}, against a tracer that does nothing", figures, ours / floor)
    table.check(f"{way}, files='real'", f"{host:.2f} / {bare:.2f} µs", host / bare, 1.15)
    table.check(f"{way}, files follow{older}", figures, ours - bare, 15, " µs")


def test_find(
    *,
    real: FrozenClock,
    following: FrozenClock,
    tmp_path: Path,
    table: Table,
    medians: Medians,
    timed: Timed,
) -> None:
    for number in range(10_000):
        path = tmp_path / str(number // 100) / str(number)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    command = ["find", str(tmp_path), "-type", "f", "-newermt", "1 day ago"]
    assert following.check_output(command).count(b"\n") == 10_000
    bare, host, ours = medians(
        timed(lambda: subprocess.check_output(command)),
        timed(lambda: real.check_output(command)),
        timed(lambda: following.check_output(command)),
    )
    what = "find over 10,000 files"
    table.check(f"{what}, files follow", f"{ours:.3f} / {bare:.3f} s", ours - bare, 0.2, " s more")
    table.check(f"{what}, files='real'", f"{host:.3f} / {bare:.3f} s", host / bare, 1.25)


def test_git(
    *,
    real: FrozenClock,
    following: FrozenClock,
    tmp_path: Path,
    table: Table,
    medians: Medians,
    timed: Timed,
) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for number in range(1000):
        path = tmp_path / str(number // 50) / str(number)
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
    # Git reads what is in files that are as old as its index, or have other stamps than there.
    following.advance(1)
    for command in (["init", "-q"], ["add", "."]):
        following.run(["git", *command], cwd=tmp_path, env=environment, check=True)
    command = ["git", "--no-optional-locks", "status", "--short"]
    bare, host, ours = medians(
        timed(lambda: subprocess.check_output(command, cwd=tmp_path, env=environment)),
        timed(lambda: real.check_output(command, cwd=tmp_path, env=environment)),
        timed(lambda: following.check_output(command, cwd=tmp_path, env=environment)),
    )
    what = "git status of 1,000 files"
    figures = f"{1e3 * ours:.1f} / {1e3 * bare:.1f} ms"
    table.check(f"{what}, files follow", figures, 1e3 * (ours - bare), 50, " ms more")
    figures = f"{1e3 * host:.1f} / {1e3 * bare:.1f} ms"
    table.check(f"{what}, files='real'", figures, 1e3 * (host - bare), 10, " ms more")
