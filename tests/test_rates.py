"""Rates that change while programs read: no clock goes backwards or steps, in any thread."""

from __future__ import annotations

import sys
import time
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.timeline import (
    CLOCK_MONOTONIC_COARSE,
    CLOCK_REALTIME_COARSE,
    NS_PER_S,
    host_wall_ns,
)
from pytest_vdsotime.tracer.calls import timers

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


EXPIRATIONS = """
import ctypes, os, struct, time
libc, period_ns, count = ctypes.CDLL(None), 4 * 10**7, 0
timer, begin_ns = libc.timerfd_create(time.CLOCK_MONOTONIC, 0), time.monotonic_ns()
libc.timerfd_settime(timer, 0, struct.pack("4q", 0, period_ns, 0, period_ns), None)
print(flush=True)
while count < 10:
    count += struct.unpack("Q", os.read(timer, 8))[0]
print(count <= (time.monotonic_ns() - begin_ns) // period_ns)
"""


def test_the_tracer_is_late_as_a_timerfd_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """It expires no more often for that, when the rate changes."""
    arm = timers._arm

    def arm_late(*arguments: Any, **keywords: Any) -> None:
        time.sleep(0.025)
        arm(*arguments, **keywords)

    monkeypatch.setattr(timers, "_arm", arm_late)
    with FrozenClock("2000-01-01", rate=1, monotonic="rate") as clock:
        program = clock.popen([sys.executable, "-S", "-c", EXPIRATIONS], stdout=PIPE)
        assert program.stdout is not None
        assert program.stdout.readline() == b"\n"
        time.sleep(0.06)
        clock.rate = 2
        assert program.communicate(timeout=CEILING_S)[0] == b"True\n"


PAST = """
import ctypes, os, signal, struct
libc, then = ctypes.CDLL(None), struct.pack("4q", 0, 0, 1, 0)
for clock_id in (0, 1, 7):  # CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME
    timer = libc.timerfd_create(clock_id, os.O_NONBLOCK)
    libc.timerfd_settime(timer, 1, then, None)
    print(struct.unpack("Q", os.read(timer, 8))[0])
    number = ctypes.c_void_p()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    libc.timer_create(clock_id, None, ctypes.byref(number))
    libc.timer_settime(number, 1, then, None)
    print(int(signal.sigtimedwait({signal.SIGALRM}, 0) is not None))
"""


@pytest.mark.parametrize("rate", [0, 1, 2])
@pytest.mark.parametrize("monotonic", ["flow", "freeze", "rate"])
def test_a_timer_of_the_past_has_expired_when_it_is_set(monotonic: str, rate: int) -> None:
    with FrozenClock("2000-01-01", rate=rate, monotonic=monotonic) as clock:
        for _ in range(5):
            command = [sys.executable, "-S", "-c", PAST]
            assert clock.check_output(command).split() == [b"1"] * 6
