"""`date -s`: root sets the clock that its programs read, and the host's stays."""

from __future__ import annotations

import time
from subprocess import DEVNULL

from pytest_vdsotime import FrozenClock


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
