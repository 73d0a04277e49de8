"""`date -s` and adjtimex: root sets the clock that its programs read, and the host's stays."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from subprocess import DEVNULL

import pytest

from pytest_vdsotime import FrozenClock, RealTimeWarning
from pytest_vdsotime.kernel.memory import kernel_timex
from pytest_vdsotime.ntp import Timex

# Prints the result of adjtimex (or its errno), and the status then, for each (modes, status).
ADJUST = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
for modes, status in json.loads(sys.argv[1]):
    timex = (ctypes.c_long * 26)(modes, 0, 0, 0, 0, status)
    state = libc.adjtimex(timex)
    told = (ctypes.c_long * 26)()
    libc.adjtimex(told)
    print(ctypes.get_errno() if state < 0 else state, told[5])
"""
ADJ_MAXERROR, ADJ_STATUS = 0x4, 0x10
STA_PLL, STA_INS, STA_DEL, STA_UNSYNC = 0x1, 0x10, 0x20, 0x40
TIME_OK, TIME_ERROR = 0, 5
EINVAL = 22


def host_offset_ns() -> int:
    """How far the host's wall clock is from its monotonic one: moved only by setting it."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def test_root_sets_its_own_clock(as_root: None) -> None:
    before_ns = host_offset_ns()
    with FrozenClock("1970-01-01") as clock:
        other = clock.popen(["sleep", "100"])
        clock.check_call(["date", "-u", "-s", "2001-02-03 04:05:06"], stdout=DEVNULL)
        assert clock.now.isoformat() == "2001-02-03T04:05:06+00:00"
        assert clock.check_output(["date", "-u", "+%F"], text=True) == "2001-02-03\n"
        assert other.poll() is None
    assert abs(host_offset_ns() - before_ns) < 10**9


def test_an_ordinary_user_may_not(as_root: None) -> None:
    with FrozenClock("1970-01-01") as clock:
        refused = clock.run(
            ["date", "-u", "-s", "2001-02-03"], user=65534, capture_output=True, text=True
        )
        assert refused.returncode == 1
        assert "Operation not permitted" in refused.stderr
        assert clock.time() == 0


def test_two_clocks_are_set_apart(as_root: None) -> None:
    with FrozenClock("1970-01-01") as one, FrozenClock("1980-01-01") as two:
        one.check_call(["date", "-u", "-s", "2001-02-03"], stdout=DEVNULL)
        assert one.now.year == 2001
        assert two.now.year == 1980


def adjust(clock: FrozenClock, *calls: tuple[int, int]) -> list[tuple[int, int]]:
    """(the result, the status afterwards) of each call."""
    command = [sys.executable, "-c", ADJUST, json.dumps(calls)]
    lines = clock.check_output(command, text=True).splitlines()
    return [(int(result), int(status)) for result, status in map(str.split, lines)]


def adjusted(clock: FrozenClock, busybox: str) -> tuple[int, int]:
    """(frequency, tick), as another program reads them."""
    text = clock.check_output([busybox, "adjtimex"], text=True)
    found = re.search(r"freq.adjust: *(-?\d+) .*tick: *(\d+) us", text, re.DOTALL)
    assert found, text
    return int(found[1]), int(found[2])


def test_what_is_adjusted_reads_back(as_root: None, real_program: Callable[[str], str]) -> None:
    busybox, host = real_program("busybox"), kernel_timex()
    hosts_own = host[Timex.FREQUENCY], host[Timex.TICK]
    with FrozenClock("1970-01-01", rate=1) as clock, FrozenClock("1970-01-01") as other:
        assert adjusted(clock, busybox) == hosts_own
        clock.check_call([busybox, "adjtimex", "-q", "-f", "-655360", "-t", "10001"])
        assert adjusted(clock, busybox) == (-655360, 10001)
        refused = clock.run([busybox, "adjtimex", "-t", "8999"], capture_output=True, text=True)
        assert refused.returncode == 1
        assert "Invalid argument" in refused.stderr
        assert adjusted(clock, busybox) == (-655360, 10001)
        assert adjusted(other, busybox) == hosts_own
    host = kernel_timex()
    assert (host[Timex.FREQUENCY], host[Timex.TICK]) == hosts_own


def test_setting_the_clock_ends_its_being_synchronized(as_root: None) -> None:
    synchronize = (ADJ_STATUS | ADJ_MAXERROR, STA_PLL)
    with FrozenClock("1970-01-01", monotonic="freeze") as clock:
        assert adjust(clock, synchronize, (0, 0)) == [(TIME_OK, STA_PLL)] * 2
        clock.advance(hours=1)
        assert adjust(clock, (0, 0)) == [(TIME_OK, STA_PLL)]
        clock.move_to("2001-02-03")
        assert adjust(clock, (0, 0)) == [(TIME_ERROR, STA_PLL | STA_UNSYNC)]
        assert adjust(clock, synchronize) == [(TIME_OK, STA_PLL)]
        clock.check_call(["date", "-u", "-s", "2001-02-03"], stdout=DEVNULL)
        assert adjust(clock, (0, 0)) == [(TIME_ERROR, STA_PLL | STA_UNSYNC)]


@pytest.mark.parametrize("rate", [0, 1])
@pytest.mark.parametrize(("bit", "name"), [(STA_INS, "STA_INS"), (STA_DEL, "STA_DEL")])
def test_leap_seconds_are_refused_by_name(as_root: None, rate: int, bit: int, name: str) -> None:
    """Once for each program, however often it asks."""
    with (
        FrozenClock("2016-12-31T23:59:50Z", rate=rate) as clock,
        pytest.warns(RealTimeWarning, match=rf"python.*leap second \({name} of adjtimex\)") as told,
    ):
        synchronize = (ADJ_STATUS | ADJ_MAXERROR, STA_PLL)
        leap = (ADJ_STATUS, STA_PLL | bit)
        results = adjust(clock, synchronize, leap, leap, (0, 0))
        assert results == [
            (TIME_OK, STA_PLL),
            (EINVAL, STA_PLL),
            (EINVAL, STA_PLL),
            (TIME_OK, STA_PLL),
        ]
        began_ns, before_ns = time.monotonic_ns(), clock.time_ns()
        clock.advance(seconds=20)
        after_ns, ended_ns = clock.time_ns(), time.monotonic_ns()
        assert 0 <= after_ns - before_ns - 20 * 10**9 <= rate * (ended_ns - began_ns)
    assert len(told) == 1
    assert kernel_timex()[Timex.STATUS] & bit == 0
