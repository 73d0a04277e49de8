"""What one deadline costs, by how much there is beside it: docs/speed.svg has the curves.

Each figure is of a loop of `poll` by 100 ms, over a few seconds of its clock.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import matplotlib.pyplot as plots
import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder
    from tests.benchmarks.conftest import Table

PERIOD_S, DEADLINES = 0.1, 200
#: What stands beside the loop, and how often.
BESIDE = {
    "processes": (0, 50, 100, 200, 350, 500),
    "threads": (0, 100, 250, 500, 750, 1000),
    "timers": (0, 100, 250, 500, 750, 1000),
}
HOURS = 10

# It keeps its fonts open from the first figure on, which is not to be one of a test's.
plots.figure().text(0, 0, "0")
plots.savefig(BytesIO(), format="svg")
plots.close()


def commands(kind: str, count: int, build: Builder) -> list[list[str]]:
    """What sleeps for long, so often."""
    if not count:
        return []
    if kind == "processes":
        return [["sleep", "1000000"]] * count
    if kind == "threads":
        return [[build.c("helpers/many_sleepers"), str(count)]]
    return [[build.c("helpers/many_timers"), str(count)]]


def milliseconds(clock: FrozenClock, deadlines: int) -> float:
    began = time.perf_counter()
    clock.advance(deadlines * PERIOD_S)
    return (time.perf_counter() - began) / deadlines * 1e3


def cost(kind: str, count: int, build: Builder) -> float:
    loop = [build.c("helpers/loop_of"), "poll", str(round(PERIOD_S * 1e6)), str(10**9)]
    with FrozenClock(0) as clock, ExitStack() as stack:
        for command in [*commands(kind, count, build), loop]:
            stack.enter_context(clock.popen(command, stdin=PIPE, stdout=PIPE))
        clock.settle()
        clock.advance(1)
        took = milliseconds(clock, DEADLINES)
        for process in clock.processes:
            subprocess.run(["kill", str(process.pid)], check=True)
    return took


def by_hours(build: Builder) -> Sequence[float]:
    loop = [build.c("helpers/loop_of"), "poll", str(round(PERIOD_S * 1e6)), str(10**9)]
    with FrozenClock(0) as clock, clock.popen(loop, stdout=PIPE) as program:
        clock.settle()
        found = [milliseconds(clock, round(3600 / PERIOD_S)) for _ in range(HOURS)]
        program.kill()
    return found


@pytest.mark.timeout(300)
def test_growth(build: Builder, table: Table) -> None:
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        f"{kind} beside": (counts, [cost(kind, count, build) for count in counts])
        for kind, counts in BESIDE.items()
    }
    curves["hours of the session"] = range(1, HOURS + 1), by_hours(build)
    for what, (counts, costs) in curves.items():
        figures = ", ".join(f"{count}: {one:.3g}" for count, one in zip(counts, costs, strict=True))
        table.add(f"one deadline in ms, by {what}", figures, costs[-1])
    draw(curves)


def draw(curves: dict[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Into the file that VDSOTIME_PLOT names, if it does."""
    name = os.environ.get("VDSOTIME_PLOT")
    if not name:
        return
    plots.rcParams["svg.hashsalt"] = "vdsotime"
    figure, axes = plots.subplots(1, len(curves), figsize=(11, 3), sharey=True)
    for axis, (what, (counts, costs)) in zip(axes, curves.items(), strict=True):
        axis.plot(counts, costs, marker="o", markersize=3)
        axis.set_xlabel(what)
    axes[0].set_ylabel("ms for one deadline")
    axes[0].set_ylim(bottom=0)  # of all of them, which have one scale
    figure.tight_layout()
    figure.savefig(Path(name), metadata={"Date": None})
