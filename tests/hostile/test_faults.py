"""A failure in handling one program ends that program, is reported, and harms no other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from subprocess import PIPE, Popen
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock, UnsupportedProgram, faults
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.calls import CALLS
from pytest_vdsotime.tracer.thread import Tracer

CEILING_S = 20
HOUR_S = 3600

# What makes a program stop in each way.
STOPS = {
    "FORK": "os.fork()",
    "VFORK": "subprocess.call(['true'])",
    "CLONE": "threading.Thread(target=int).start()",
    "EXEC": "os.execvp('sleep', ['sleep', '7200'])",  # not ended before the tracer hears of it
    "TRAP": "subprocess.call(['kill', '-CONT', str(os.getpid())])",  # behind SIGSTOP
    "GROUP_STOP": "os.kill(os.getpid(), signal.SIGSTOP)",
    "SIGNAL": "os.kill(os.getpid(), signal.SIGWINCH)",
    "SECCOMP": "time.sleep(0.001)",
    "SYSCALL": "os.times()",
    "EXITED": "os._exit(3)",
}
# And what the native code has seen to when Python hears of it.
ENTRIES = "FORK", "VFORK", "CLONE", "EXEC"
# What makes calls of each kind.
ROWS = {
    "clock_nanosleep": "time.sleep(0.001)",
    "timerfd_settime": "ctypes.CDLL(None).timerfd_settime(1, 0, 0, 0)",
    "setitimer": "signal.setitimer(signal.ITIMER_REAL, 1)",
    "alarm": "signal.alarm(1)",
    "pselect6": "select.select([], [], [], 0.001)",
    "poll": "select.poll().poll(1)",
    "clone3": "threading.Thread(target=int).start()",
    "sysinfo": "ctypes.CDLL(None).sysinfo(0)",
    "times": "os.times()",
    "setsockopt": "socket.socket().settimeout(1); socket.socket().setsockopt(1, 20, bytes(16))",
}


class Scene:
    """A clock with the program that a fault hits, and another one that sleeps for an hour."""

    def __init__(self, clock: FrozenClock, code: str, before: str = "") -> None:
        self.clock = clock
        self.other = clock.popen(["sleep", str(HOUR_S)])
        imports = "import ctypes, os, select, signal, socket, subprocess, sys, threading, time"
        body = f"{imports}\n{before}\nprint(flush=True)\nsys.stdin.readline()\n{code}\n"
        self.victim: Popen[str] = clock.popen(
            ["python3", "-c", f"{body}time.sleep({2 * HOUR_S})"],
            stdin=PIPE,
            stdout=PIPE,
            text=True,
        )
        assert self.victim.stdout
        self.victim.stdout.readline()

    def run(self, status: int = -signal.SIGKILL, *, seconds: float = 0) -> None:
        """Has the victim do it; the fault is armed."""
        assert self.victim.stdin
        self.victim.stdin.write("\n")
        self.victim.stdin.flush()
        with pytest.raises(UnsupportedProgram, match=rf"\(pid {self.victim.pid}\) failed: on purp"):
            self.clock.advance(seconds)
            self.victim.wait(CEILING_S)
            self.clock.advance(0)  # what is left to be told
        assert self.victim.wait(CEILING_S) == status

    def check_others(self) -> None:
        """The tracer goes on, with the programs that there were and with new ones."""
        self.clock.advance(HOUR_S)
        assert self.other.wait(CEILING_S) == 0
        assert self.clock.run(["sh", "-c", "exit 4"]).returncode == 4


@contextmanager
def scene(code: str, *, is_native: bool, before: str = "", **parameters: Any) -> Iterator[Scene]:
    with (
        closing(Tracer(is_native=is_native)) as tracer,
        clock_on(tracer, "2000-01-01", **parameters) as clock,
    ):
        one = Scene(clock, code, before)
        assert one.victim.stdin and one.victim.stdout
        with one.victim.stdin, one.victim.stdout:
            yield one


@pytest.fixture
def no_child_is_left(traced_programs: Callable[[], Iterator[str]]) -> Callable[[], bool]:
    """Of the victim, of which the tracer has yet to hear; one that was killed ends soon."""

    def is_left() -> bool:
        return any("python3" in one for one in traced_programs())

    def none_is_left() -> bool:
        ends = time.monotonic() + CEILING_S
        while is_left() and time.monotonic() < ends:
            time.sleep(0.001)
        return not is_left()

    return none_is_left


def failing(*pids: int) -> Callable[[int], None]:
    def fail(pid: int) -> None:
        if pid in pids:
            raise ZeroDivisionError("on purpose")

    return fail


@pytest.mark.parametrize("kind", STOPS)
def test_a_stop(kind: str, no_child_is_left: Callable[[], bool]) -> None:
    with scene(STOPS[kind], is_native=False) as one:
        if kind == "TRAP":
            os.kill(one.victim.pid, signal.SIGSTOP)
            os.kill(one.victim.pid, signal.SIGCONT)
        with faults.injected(f"stop {kind}", failing(one.victim.pid)):
            one.run(3 if kind == "EXITED" else -signal.SIGKILL, seconds=1)
        one.check_others()
        assert no_child_is_left()


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_event_that_was_seen_to(kind: str, no_child_is_left: Callable[[], bool]) -> None:
    """Or not, where a stop of another program has come first."""
    with scene(STOPS[kind], is_native=True) as one:
        fail = failing(one.victim.pid)
        with faults.injected(f"entry {kind}", fail), faults.injected(f"stop {kind}", fail):
            one.run()
        one.check_others()
        assert no_child_is_left()


@pytest.mark.parametrize("name", ROWS)
def test_a_system_call(name: str) -> None:
    assert name in {row.name for row in CALLS}
    with scene(ROWS[name], is_native=False) as one:
        with faults.injected(f"call {name}", failing(one.victim.pid)):
            one.run()
        one.check_others()


@pytest.mark.parametrize("is_native", [True, False])
@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
def test_the_end_of_a_wait(monotonic: str, is_native: bool) -> None:
    with scene("time.sleep(60)", is_native=is_native, monotonic=monotonic) as one:
        with faults.injected("wait", failing(one.victim.pid)):
            one.run(seconds=60)
        one.check_others()


ARM = "signal.signal(signal.SIGALRM, signal.SIG_IGN); signal.setitimer(signal.ITIMER_REAL, {}, {})"


@pytest.mark.parametrize("when", [0.05, 60])  # by itself, and in an advance
def test_a_timer(when: float) -> None:
    with scene(ARM.format(when, when), is_native=True) as one:
        with faults.injected("timer", failing(one.victim.pid)):
            one.run(seconds=60 if when == 60 else 0)
        one.check_others()


def test_a_jump_ends_the_programs_of_its_clock_alone() -> None:
    """Where nobody can say which program it was about, it was about all of the clock."""
    with (
        closing(Tracer()) as tracer,
        clock_on(tracer, "2000-01-01") as quiet,
        clock_on(tracer, "2000-01-01", autojump=0.5) as jumping,
    ):
        other = quiet.popen(["sleep", str(HOUR_S)])
        victim = jumping.popen(["sleep", str(HOUR_S)])
        with faults.injected("jump", failing(victim.pid)):
            with pytest.raises(UnsupportedProgram, match="moving the clock of .* on purpose"):
                victim.wait(CEILING_S)
                jumping.settle()
            assert victim.wait(CEILING_S) == -signal.SIGKILL
        quiet.advance(HOUR_S)
        assert other.wait(CEILING_S) == 0
