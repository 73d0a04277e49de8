"""A session of 20,000 programs on 2,000 clocks: nothing grows. docs/soak.svg has the curves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import matplotlib.pyplot as plots
import pytest

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Table

CLOCKS, PROGRAMS, LOOKS = 2000, 10, 40
#: What may come, from the first quarter of the looks to the last.
MOST_MORE = {"memory in MB": 2.0, "descriptors": 0.0, "threads": 0.0, "ms for a start": 0.15}

# It keeps its fonts open from the first figure on, which is not to be one of a test's.
plots.figure().text(0, 0, "0")
plots.savefig(BytesIO(), format="svg")
plots.close()


SCRIPT = f"""
import gc, json, os, threading, time
from statistics import median
from pytest_vdsotime import FrozenClock

for _ in range({LOOKS}):
    starts_s = []
    for number in range({CLOCKS // LOOKS}):
        # Every second one has its files follow, and is moved.
        with FrozenClock(2**31, files=("real", "follow")[number % 2]) as clock:
            for _ in range({PROGRAMS}):
                began = time.perf_counter()
                clock.run(["true"], check=True)
                starts_s.append(time.perf_counter() - began)
            clock.advance(hours=1)
    gc.collect()
    pages = int(open("/proc/self/statm").read().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    counts = len(os.listdir("/proc/self/fd")), threading.active_count()
    print(json.dumps([memory, *counts, median(starts_s) * 1e3]), flush=True)
"""


@pytest.mark.timeout(600)
def test_a_long_session(table: Table) -> None:
    """Without pytest, which keeps what it reports of each test."""
    told = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True)
    found = [dict(zip(MOST_MORE, json.loads(line), strict=True)) for line in told.splitlines()]
    assert len(found) == LOOKS
    quarter = LOOKS // 4
    for what, most in MOST_MORE.items():
        first, last = (
            median(one[what] for one in looks) for looks in (found[:quarter], found[-quarter:])
        )
        figures = f"{first:.4g}, {last:.4g}"
        table.check(f"{what} in a long session: how much more", figures, last - first, most)
    draw(found)


def draw(found: Sequence[Mapping[str, float]]) -> None:
    """Beside the file that VDSOTIME_PLOT names, if it does."""
    name = os.environ.get("VDSOTIME_PLOT")
    if not name:
        return
    plots.rcParams["svg.hashsalt"] = "vdsotime"
    figure, axes = plots.subplots(1, len(MOST_MORE), figsize=(11, 3))
    programs = [(number + 1) * CLOCKS // LOOKS * PROGRAMS for number in range(LOOKS)]
    for axis, what in zip(axes, MOST_MORE, strict=True):
        axis.plot(programs, [one[what] for one in found])
        axis.set_ylabel(what)
        axis.set_ylim(bottom=0)
    figure.supxlabel("programs since the session began")
    figure.tight_layout()
    figure.savefig(Path(name).with_name("soak.svg"), metadata={"Date": None})
