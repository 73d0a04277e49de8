"""Millennia: what does not fit into a field of the kernel's, or of the native code's."""

from __future__ import annotations

import subprocess
from subprocess import PIPE

import pytest

from pytest_vdsotime import FrozenClock

CEILING_S = 20
TELL = """
import os, struct, sys, threading, time
{before}
for line in sys.stdin:
    {act}
"""
# Python's own functions go as far as 292 years.
READ = """
import ctypes
libc, pair = ctypes.CDLL(None), (ctypes.c_long * 2)()
def now_ns():
    libc.clock_gettime(0, pair)
    return pair[0] * 10**9 + pair[1]
"""


def start(clock: FrozenClock, act: str, before: str = "") -> subprocess.Popen[str]:
    """Prints what `act` gives for each line that it reads."""
    code = TELL.format(before=before, act=f"print({act}, flush=True)")
    return clock.popen(["python3", "-c", code], stdin=PIPE, stdout=PIPE, text=True)


def ask(program: subprocess.Popen[str]) -> int:
    assert program.stdin and program.stdout
    program.stdin.write("\n")
    program.stdin.flush()
    return int(program.stdout.readline())


def end(program: subprocess.Popen[str]) -> None:
    program.communicate("", timeout=CEILING_S)


@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
def test_millennia_pass_at_once(monotonic: str) -> None:
    with FrozenClock("0001-01-01", monotonic=monotonic) as clock:
        program = start(clock, "now_ns()", READ)
        assert ask(program) == clock.time_ns()
        before_ns = clock.monotonic_ns()
        clock.advance(days=365 * 9000)
        assert ask(program) == clock.time_ns()
        assert clock.monotonic_ns() - before_ns >= 365 * 9000 * 86400 * 10**9
        assert clock.run(["date", "-u", "+%F"], capture_output=True, text=True).stdout == (
            f"{clock.now:%Y-%m-%d}\n"
        )
        end(program)
        sleeper = clock.popen(["sleep", "100"])  # after all that it takes as long as ever
        clock.advance(99)
        assert sleeper.poll() is None
        clock.advance(2)
        assert sleeper.wait(CEILING_S) == 0


def test_more_expirations_than_a_timerfd_counts() -> None:
    timer = (
        "import ctypes; libc = ctypes.CDLL(None)\n"
        "fd = libc.timerfd_create(0, 0)\n"
        "libc.timerfd_settime(fd, 1, struct.pack('4q', 0, 1, int(time.time()) + 1, 0), None)"
    )
    with FrozenClock("0001-01-01", monotonic="freeze") as clock:
        clock.move_to("1970-01-02")
        program = start(clock, "int.from_bytes(os.read(fd, 8), sys.byteorder)", before=timer)
        clock.settle()
        clock.move_to("9999-01-01")
        assert ask(program) == 2**64 - 1
        end(program)


@pytest.mark.parametrize("is_absolute", [0, 1])
def test_a_deadline_beyond_all_years_can_be_told(is_absolute: int) -> None:
    code = f"{READ}\nlibc.clock_nanosleep(0, {is_absolute}, (ctypes.c_long * 2)(2**60, 0), None)"
    with FrozenClock("9999-01-01", monotonic="freeze") as clock:
        sleeper = clock.popen(["python3", "-c", code])
        clock.settle()
        (wait,) = clock.waits
        assert wait.remaining > 2**59
        assert "waits in clock_nanosleep" in clock.describe(events=9)
        with pytest.raises(ValueError, match="years 0001 to 9999"):
            clock.advance_to_next()
        assert sleeper.poll() is None


@pytest.mark.parametrize("is_absolute", [0, 1])
def test_a_timer_beyond_all_years_can_be_told(is_absolute: int) -> None:
    timer = (
        "import ctypes; libc = ctypes.CDLL(None)\n"
        "fd = libc.timerfd_create(0, 0)\n"
        f"libc.timerfd_settime(fd, {is_absolute}, struct.pack('4q', 2**61, 0, 2**60, 0), None)"
    )
    with FrozenClock("9999-01-01", monotonic="freeze") as clock:
        program = start(clock, "0", before=timer)
        assert ask(program) == 0
        assert "timerfd (descriptor" in clock.describe(events=9)
        end(program)


NEVER_S = [2**63 // 10**9 - 1, 2**63 // 10**9, 2**62, 2**63 - 1]
SLEEP = """
import ctypes
libc, pair = ctypes.CDLL(None), (ctypes.c_long * 2)
"""
TIMER = """
import ctypes
libc, spec = ctypes.CDLL(None), (ctypes.c_long * 4)({interval}, 999_999_999, 5, 0)
fd = libc.timerfd_create(1, 0)
libc.timerfd_settime(fd, 0, spec, None)
"""


def begin(program: subprocess.Popen[str]) -> None:
    assert program.stdin
    program.stdin.write("\n")
    program.stdin.flush()


@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
@pytest.mark.parametrize("seconds", NEVER_S)
def test_a_sleep_that_no_clock_outlasts(seconds: int, monotonic: str) -> None:
    """Its deadline, later than the last instant of the kernel's, is not taken for a past one."""
    with FrozenClock(monotonic=monotonic) as clock:
        sleeper = start(clock, f"libc.nanosleep(pair({seconds}, 999_999_999), None)", SLEEP)
        begin(sleeper)
        for delta in 2, 3600, 365 * 86400:
            clock.advance(delta)
            assert [one.syscall for one in clock.waits] == ["clock_nanosleep"]
        assert sleeper.poll() is None


@pytest.mark.parametrize("interval", NEVER_S)
def test_a_timer_whose_next_expiration_no_clock_reaches(interval: int) -> None:
    with FrozenClock(monotonic="freeze") as clock:
        expirations = "int.from_bytes(os.read(fd, 8), sys.byteorder)"
        program = start(clock, expirations, TIMER.format(interval=interval))
        begin(program)
        clock.advance(6)
        assert program.stdout and program.stdout.readline() == "1\n"
        begin(program)
        clock.advance(days=365)
        other = clock.popen(["sleep", "1"])  # by which the engine runs on
        clock.advance(2)
        assert [program.poll(), other.poll()] == [None, 0]
