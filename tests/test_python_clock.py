"""python=True: the test process's own Python clock is on the wall line, as its programs are."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
import time_machine

from pytest_vdsotime import FrozenClock

DAY_S = 86_400


def host_ns() -> int:
    """To a few milliseconds; time-machine leaves the coarse clock alone."""
    return time.clock_gettime_ns(5)


@pytest.fixture(autouse=True)
def the_host_is_back() -> Iterator[None]:
    yield
    assert not time_machine.traveller_stack
    assert abs(time.time() - host_ns() / 1e9) < 60


def assert_reads(clock: FrozenClock, text: str) -> None:
    """Python, this clock and a program of it read the same."""
    assert time.time_ns() == clock.time_ns()
    assert datetime.now(UTC) == clock.now == datetime.fromisoformat(text)
    assert clock.check_output(["date", "-u", "-Ins"], text=True) == clock.now.strftime(
        "%Y-%m-%dT%H:%M:%S,%f000+00:00\n"
    )


def test_every_move() -> None:
    with FrozenClock("1969-12-31T23:59:59.5Z", python=True) as clock:
        assert time.time() == -0.5
        assert_reads(clock, "1969-12-31T23:59:59.5Z")
        clock.advance(0.75)
        assert_reads(clock, "1970-01-01T00:00:00.25Z")
        clock.move_to("2038-01-19T03:14:08Z")
        assert_reads(clock, "2038-01-19T03:14:08Z")
        clock.move_to("2000-02-29")
        assert_reads(clock, "2000-02-29T00:00:00Z")
        assert date.today() == datetime.now().date()
        assert time.clock_gettime(time.CLOCK_REALTIME) == time.time()
        assert time.gmtime()[:3] == (2000, 2, 29)
        epoch_s = 0x01B21DD213814000 // 10**7  # RFC 9562
        assert uuid.uuid1().time // 10**7 == epoch_s + clock.time_ns() // 10**9
        clock.rate = 3600
        before, began = time.time(), time.monotonic()
        while time.monotonic() == began:
            pass
        assert before < time.time() <= clock.time()


@pytest.mark.parametrize("rate", [1.0, 60.0])
def test_a_rate_from_the_start(rate: float) -> None:
    with FrozenClock("2030-01-01", rate=rate, python=True) as clock:
        program, own = float(clock.check_output(["date", "+%s.%N"])), time.time()
        assert program < own <= clock.time() < program + 60 * rate


def test_a_program_sets_the_clock(as_root: None) -> None:
    with FrozenClock("2030-01-01", python=True) as clock:
        clock.check_output(["date", "-u", "-s", "2040-01-01 12:00"])
        assert_reads(clock, "2040-01-01T12:00:00Z")


def test_deadline_by_deadline() -> None:
    """At each deadline Python's clock is where the program's is."""
    script = "for i in 1 2 3 4 5 6 7; do sleep 1d; date -u +%F; done"
    clock = FrozenClock("2030-01-01", monotonic="freeze", python=True)
    with clock, clock.popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for _ in range(3):
            assert clock.advance_to_next() == datetime.now(UTC)
            assert program.stdout.readline() == f"{datetime.now(UTC).date()}\n"
        clock.advance(days=4)
        assert_reads(clock, "2030-01-08T00:00:00Z")
        assert [*program.stdout] == [f"2030-01-0{day}\n" for day in (5, 6, 7, 8)]
        assert program.wait() == 0


def test_while_it_advances() -> None:
    """Nothing of what Python reads meanwhile is beyond the end, or goes back."""
    readings: list[int] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            readings.append(time.time_ns())

    with FrozenClock(0, monotonic="freeze", python=True) as clock:
        program = clock.popen(["sh", "-c", "for i in 1 2 3 4; do sleep 1d; done"])
        reader = threading.Thread(target=read)
        reader.start()
        clock.advance(days=4)
        is_over.set()
        reader.join()
        assert program.wait() == 0
    assert {*readings} <= {day * DAY_S * 10**9 for day in range(5)}
    assert readings == sorted(readings)


def test_other_travellers() -> None:
    with time_machine.travel("2001-01-01T00:00Z", tick=False) as outer:
        with FrozenClock("2002-01-01", python=True) as clock:
            assert datetime.now(UTC).year == 2002
            with time_machine.travel("2003-01-01T00:00Z", tick=False):
                assert datetime.now(UTC).year == 2003
                clock.advance(days=365)
                assert datetime.now(UTC).year == 2003
                assert clock.check_output(["date", "-u", "+%Y"]) == b"2003\n"
            assert_reads(clock, "2003-01-01T00:00:00Z")
        assert datetime.now(UTC).year == 2001
        outer.shift(DAY_S)
        assert datetime.now(UTC).date() == date(2001, 1, 2)


@pytest.mark.parametrize("first", [0, 1])
def test_two_clocks_in_any_order(first: int) -> None:
    clocks = FrozenClock("2001-01-01", python=True), FrozenClock("2002-01-01", python=True)
    assert datetime.now(UTC).year == 2002
    clocks[first].close()
    assert datetime.now(UTC).year == 2002 - first
    clocks[1 - first].close()


def test_a_traveller_that_ends_too_early() -> None:
    """time-machine ends the last who began: ours. What is left is put right at our end."""
    travel = time_machine.travel("2001-01-01T00:00Z", tick=False)
    travel.start()
    with FrozenClock("2002-01-01", python=True):
        travel.stop()


def test_the_host_is_what_none_means() -> None:
    with FrozenClock("1999-01-01", python=True) as clock:
        with FrozenClock() as now:
            assert abs(now.time_ns() - host_ns()) < 60 * 10**9
            tai = "import time; print(time.clock_gettime(time.CLOCK_TAI) - time.time())"
            assert abs(float(now.check_output([sys.executable, "-c", tai]))) < 3600
        clock.move_to(None)
        assert abs(time.time_ns() - host_ns()) < 60 * 10**9


def test_without_it() -> None:
    """The error names the extra, before anything has started."""
    code = """
import sys, threading
sys.modules["time_machine"] = None
from pytest_vdsotime import FrozenClock
FrozenClock("2000-01-01").close()
try:
    FrozenClock("2000-01-01", python=True)
except ImportError as error:
    print(error, threading.active_count())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    text = "python=True needs time-machine 3 or later: pip install 'pytest-vdsotime[python]' 1\n"
    assert done.stdout == text


def test_mistakes() -> None:
    with pytest.raises(TypeError, match="python is a bool, not 1"):
        FrozenClock(python=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rate"):
        FrozenClock(rate=-1, python=True)
