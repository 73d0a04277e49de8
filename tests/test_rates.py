"""Rates that change while programs read: no clock goes backwards or steps, in any thread."""

from __future__ import annotations

import sys
import time
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.timeline import (
    CLOCK_MONOTONIC_COARSE,
    CLOCK_REALTIME_COARSE,
    NS_PER_S,
    host_wall_ns,
)

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30
#: It wakes all the time, and answers each line with the time.
ANSWERS = """
import sys, threading, time
def tick():
    while True: time.sleep(0.01)
threading.Thread(target=tick, daemon=True).start()
for _ in sys.stdin: print(time.time_ns(), flush=True)
"""
RATES = [1, 60, 0.1, 0, 1e6, 1 / 3, 1, 0, 60]


@pytest.mark.parametrize("monotonic", ["flow", "freeze", "rate"])
def test_changing_the_rate_of_readers_at_work(build: Builder, monotonic: str) -> None:
    with FrozenClock("1999-12-31T23:59:59Z", monotonic=monotonic) as clock:
        program = clock.popen(
            [build.c("helpers/monotone")], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True
        )
        assert program.stdout and program.stdout.readline() == "READING\n"
        former = clock.rate
        for rate in RATES * 20:
            real_ns, wall_ns = time.monotonic_ns(), clock.time_ns()
            clock.rate = rate
            moved_ns = clock.time_ns() - wall_ns
            passed_ns = time.monotonic_ns() - real_ns
            assert 0 <= moved_ns <= passed_ns * max(rate, former)
            former = rate
        output, errors = program.communicate("\n", timeout=CEILING_S)
    assert (errors, program.returncode) == ("", 0)
    assert int(output) > len(RATES) * 20


def test_a_clock_from_now_on_was_the_hosts_at_its_last_tick() -> None:
    """Where its coarse clock reads it, and stamps of files are of. Others begin at their start."""
    tick_ns = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
    for start, expected_ns in ((None, host_wall_ns(tick_ns)), (7, 7 * NS_PER_S)):
        with FrozenClock(start, rate=1) as clock:
            _, world = clock.session.start_tracing()
            assert world.page.reading_ns(CLOCK_REALTIME_COARSE, tick_ns) == expected_ns
            assert world.page.reading_ns(CLOCK_MONOTONIC_COARSE, tick_ns) == tick_ns


def test_the_test_and_its_program_read_the_same_line(build: Builder) -> None:
    """To the nanosecond, on a line that stands after it has run at odd rates."""
    with FrozenClock(0, rate=1 / 3, monotonic="rate") as clock:
        for rate in (60, 0.1, 0):
            clock.rate = rate
        said = clock.check_output(
            ["python3", "-c", "import time; print(time.time_ns(), time.monotonic_ns())"], text=True
        )
        assert said.split() == [str(clock.time_ns()), str(clock.monotonic_ns())]


@pytest.mark.parametrize("python", [False, True])
def test_the_test_is_never_behind_its_program_in_a_jumping_world(python: bool) -> None:
    with FrozenClock(0, autojump=True, python=python) as clock:
        program = clock.popen(
            [sys.executable, "-c", ANSWERS], stdin=PIPE, stdout=PIPE, text=True, bufsize=1
        )
        assert program.stdin and program.stdout
        read_ns = time.time_ns if python else clock.time_ns
        answer_ns = 0
        while answer_ns < 10 * NS_PER_S:
            before_ns = read_ns()
            print(file=program.stdin)
            answer_ns = int(program.stdout.readline())
            assert before_ns <= answer_ns <= read_ns()
        program.kill()
