"""What waits, for how long, and what is busy: as the clock tells it, in lists and in errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock, NotSettled

if TYPE_CHECKING:
    from tests.real.conftest import Start

START = "2030-01-01T00:00:00Z"
CEILING_S = 30
HOUR_NS = 3600 * 10**9

Find = Callable[[str], str]


def test_one_wait() -> None:
    with FrozenClock(START, monotonic="freeze") as clock:
        assert clock.waits == []
        sleep = clock.popen(["sleep", "3600"])
        clock.settle()
        (wait,) = clock.waits
        assert (wait.pid, wait.tid, wait.command) == (sleep.pid, sleep.pid, "sleep")
        # A relative wait is one on the monotonic line, whatever clock it names.
        assert (wait.syscall, wait.clock) == ("clock_nanosleep", "CLOCK_MONOTONIC")
        assert wait.deadline_ns == clock.monotonic_ns() + HOUR_NS
        assert wait.remaining == 3600
        clock.advance(minutes=20)
        assert clock.waits[0].remaining == 2400
        assert clock.waits[0].deadline_ns == wait.deadline_ns
        clock.advance(minutes=40)
        assert clock.waits == []


def test_flowing_time_shortens_waits() -> None:
    with FrozenClock(START) as clock:
        sleep = clock.popen(["sleep", "3600"])
        clock.settle()
        first, second = clock.waits[0], clock.waits[0]
        assert first.deadline_ns == second.deadline_ns
        assert 3600 - CEILING_S < second.remaining < first.remaining <= 3600
        assert first.pid == second.pid == sleep.pid


def test_the_soonest_is_first() -> None:
    with FrozenClock(START, monotonic="freeze") as clock:
        sleeps = [clock.popen(["sleep", f"{hours}h"]) for hours in (3, 1, 2)]
        with clock.popen(["cat"], stdin=PIPE):  # which waits for no time
            clock.settle()
            assert [wait.remaining / 3600 for wait in clock.waits] == [1, 2, 3]
            expected = [datetime(2030, 1, 1, hour, tzinfo=UTC) for hour in (1, 2, 3)]
            assert [clock.advance_to_next() for _ in expected] == expected
            assert clock.now == expected[-1]
            assert clock.advance_to_next() is None
            assert clock.now == expected[-1]
        assert [sleep.poll() for sleep in sleeps] == [0, 0, 0]


def test_waits_of_threads_and_of_children(start: Start) -> None:
    """Each by its own thread and its own system call."""
    script = """if True:
        import subprocess, threading, time
        threading.Thread(target=time.sleep, args=[100]).start()
        threading.Thread(target=threading.Event().wait, args=[200]).start()
        child = subprocess.Popen(["sleep", "300"])
        print("ready", flush=True)
        child.wait()
    """
    with FrozenClock(START, monotonic="freeze") as clock:
        program = start(clock, [sys.executable, "-c", script])
        clock.settle()
        sleep, event, child = clock.waits
        assert [round(wait.remaining) for wait in clock.waits] == [100, 200, 300]
        assert (sleep.pid, event.pid) == (program.popen.pid, program.popen.pid)
        tids = {int(tid) for tid in os.listdir(f"/proc/{program.popen.pid}/task")}
        assert {sleep.tid, event.tid} == tids - {program.popen.pid}
        assert (sleep.syscall, event.syscall) == ("clock_nanosleep", "futex")
        assert (child.command, child.pid) == ("sleep", child.tid)


def test_a_wait_until_a_time_of_day(start: Start, real_program: Find) -> None:
    script = """
        use Time::HiRes qw(clock_nanosleep CLOCK_REALTIME TIMER_ABSTIME); $| = 1; print "ready\\n";
        clock_nanosleep(CLOCK_REALTIME, 1e9 * (1893456000 + 3600), TIMER_ABSTIME);
    """
    with FrozenClock(START, monotonic="freeze") as clock:
        program = start(clock, [real_program("perl"), "-e", script])
        clock.settle()
        (wait,) = clock.waits
        assert (wait.command, wait.clock) == ("perl", "CLOCK_REALTIME")
        assert wait.deadline_ns == clock.time_ns() + HOUR_NS
        assert wait.remaining == 3600
        clock.advance_to_next()
        assert program.popen.poll() == 0


# A program that does not end in time.


def test_an_expired_timeout_says_what_is_waited_for() -> None:
    with FrozenClock(START) as clock:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            clock.run(["sleep", "3600"], timeout=0.5)
        note = "\n".join(caught.value.__notes__)
        assert "sleep" in note
        assert "clock_nanosleep" in note
        assert "advance" in note  # what would wake it
        # It was killed, as by subprocess.run, and the clock goes on.
        assert clock.processes == []
        assert clock.check_output(["echo", "next"], timeout=CEILING_S) == b"next\n"


def test_the_note_names_each_process() -> None:
    """With its pid, and what it waits for if that is no time."""
    script = "sleep 1h & sleep 2h | cat"
    with FrozenClock(START, monotonic="freeze") as clock:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            clock.check_output(["bash", "-c", script], timeout=0.5)
        note = "\n".join(caught.value.__notes__)
        assert note.count("sleep") >= 2
        assert "cat" in note
        assert "bash" in note
        # The shell alone was killed, as by subprocess.run.
        clock.advance(hours=1)
        assert [wait.remaining for wait in clock.waits] == [3600]


@pytest.mark.parametrize("method", ["wait", "communicate"])
def test_a_program_that_runs_on_after_the_timeout(method: str) -> None:
    with FrozenClock(START, monotonic="freeze") as clock:
        sleep = clock.popen(["sleep", "3600"])
        with pytest.raises(subprocess.TimeoutExpired):
            getattr(sleep, method)(timeout=0.2)
        clock.settle()
        assert clock.waits[0].remaining == 3600
        clock.advance(hours=1)
        assert sleep.poll() == 0


# A program that does not wait.


@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
def test_a_busy_program_is_named(monotonic: str, real_program: Find) -> None:
    with FrozenClock(START, monotonic=monotonic) as clock:
        sleep = clock.popen(["sleep", "3600"])
        busy = clock.popen([real_program("perl"), "-e", "1 while 1"])
        for call in (partial(clock.advance, hours=1, timeout=0.3), partial(clock.settle, 0.3)):
            with pytest.raises(NotSettled, match="perl") as caught:
                call()
            assert str(busy.pid) in str(caught.value)
            assert "sleep" not in str(caught.value)
        busy.kill()
        busy.wait(CEILING_S)
        clock.settle()
        assert sleep.poll() is None
        clock.advance(hours=1)
        assert sleep.poll() == 0


def test_a_program_that_spins_on_the_clock(real_program: Find) -> None:
    """It waits for a time that does not come while it looks; it is not settled, and named."""
    script = "my $end = time + 10; 1 while time < $end; sleep 3600"
    with FrozenClock(START) as clock:
        spins = clock.popen([real_program("perl"), "-e", script])
        with pytest.raises(NotSettled, match="perl"):
            clock.advance(5, timeout=0.3)
        spins.kill()
        spins.wait(CEILING_S)
        assert clock.run(["true"], timeout=CEILING_S).returncode == 0


def test_busy_in_the_midst_of_an_advance() -> None:
    """The clock stays where it got to: at the deadline whose program went wild."""
    script = "sleep 60; while :; do :; done"
    with FrozenClock(START, monotonic="freeze") as clock:
        shell = clock.popen(["bash", "-c", script])
        with pytest.raises(NotSettled, match="bash"):
            clock.advance(hours=1, timeout=0.3)
        assert clock.now == datetime(2030, 1, 1, 0, 1, tzinfo=UTC)
        shell.kill()
        shell.wait(CEILING_S)
        sleep = clock.popen(["sleep", "1"])
        clock.advance(1)
        assert sleep.poll() == 0
