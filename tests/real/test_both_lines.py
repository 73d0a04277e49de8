"""While the test advances the clock, both lines move by the same amounts."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.real.conftest import Start

START = "2030-01-01T00:00:00Z"
# How far the lines are apart after each of its sleeps, in nanoseconds.
APART = """
import sys, time
print("ready", flush=True)
for _ in range(100):
    time.sleep(1)
    print(time.time_ns() - time.monotonic_ns(), flush=True)
    if sys.argv[1:]:
        sum(range(200_000))
"""
# Busy until the monotonic clock says that it was for so long.
BUSY = """
import time
print("ready", flush=True)
for _ in range(3):
    time.sleep(60)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    print(time.time(), flush=True)
time.sleep(60)
print(time.time(), flush=True)
"""


@pytest.mark.parametrize("works", [[], ["works"]], ids=["sleeps", "works"])
@pytest.mark.parametrize("parameters", [{}, {"rate": 1}, {"monotonic": "freeze"}], ids=str)
def test_no_gap_opens(start: Start, parameters: dict[str, Any], works: list[str]) -> None:
    """Neither by the real time that the clock takes, nor by what the programs do meanwhile."""
    with FrozenClock(START, **parameters) as clock:
        program = start(clock, [sys.executable, "-c", APART, *works])
        clock.advance(90)
        apart = [int(line) for line in program.said()]
        assert len(apart) in (89, 90)  # the first sleep may have begun before
        # Between the two readings of a flowing line time passes.
        assert max(apart) - min(apart) <= (0 if "monotonic" in parameters else 10**6)


def test_a_busy_program_finds_that_time_passes(start: Start) -> None:
    """On the line that flows by itself, while it is busy; on both of them when it rests."""
    with FrozenClock(START) as clock:
        began = clock.time()
        program = start(clock, [sys.executable, "-c", BUSY])
        clock.advance(245, timeout=30)
        assert clock.time() - began == 245
        *while_busy, at_rest = [float(line) - began for line in program.said()]
        # The wall line stands while they work, and what has passed is added when they rest.
        assert [round(second) for second in while_busy] == [60, 120, 181]
        assert 240.8 < at_rest < 244


@pytest.mark.parametrize("rate", [0, 1, 60])
def test_the_rate_goes_on_after_it(rate: float) -> None:
    """And is the same for who asks meanwhile."""
    with FrozenClock(START, rate=rate) as clock:
        sleep = clock.popen(["sleep", "5"])
        clock.advance(10)
        assert sleep.poll() == 0
        assert clock.rate == rate
        first = [time.monotonic_ns(), clock.monotonic_ns(), clock.time_ns(), time.monotonic_ns()]
        time.sleep(0.05)
        last = [time.monotonic_ns(), clock.monotonic_ns(), clock.time_ns(), time.monotonic_ns()]
        least_ns, most_ns = last[0] - first[3], last[3] - first[0]
        assert least_ns <= last[1] - first[1] <= most_ns
        assert least_ns * rate <= last[2] - first[2] <= most_ns * rate + 1
