"""Clocks in numbers, from many threads, after a fork, and beside code that waits for any child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import ClockClosed, FrozenClock
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30


def date(clock: FrozenClock) -> str:
    output: bytes = clock.check_output(["date", "-u", "+%F"], timeout=CEILING_S)
    return output.decode().strip()


def test_fifty_clocks_of_one_tracer() -> None:
    tracer = Tracer()
    clocks = [clock_on(tracer, f"{1950 + i}-01-01") for i in range(50)]
    script = ["sh", "-c", "read x; date -u +%Y"]
    programs = [clock.popen(script, stdin=PIPE, stdout=PIPE) for clock in clocks]
    for i, clock in enumerate(clocks):
        clock.advance(days=366 * i)
    years = [int(program.communicate(b"\n", timeout=CEILING_S)[0]) for program in programs]
    assert years == [clock.now.year for clock in clocks]
    assert len(set(years)) == 50
    for clock in clocks:
        clock.close()
    tracer.close()


def test_clocks_with_tracers_of_their_own() -> None:
    clocks = [FrozenClock(f"{2000 + i}-01-01") for i in range(10)]
    assert [date(clock) for clock in clocks] == [f"{2000 + i}-01-01" for i in range(10)]
    for clock in reversed(clocks):
        clock.close()


def test_a_closed_clock_leaves_the_others_alone() -> None:
    tracer = Tracer()
    with clock_on(tracer, "2000-01-01") as one:
        program = one.popen(["cat"], stdin=PIPE, stdout=PIPE)
        with clock_on(tracer, "2001-01-01") as other:
            killed = other.popen(["sleep", "1000"])
        assert killed.returncode == -signal.SIGKILL
        assert program.communicate(b"x", timeout=CEILING_S)[0] == b"x"
        assert date(one) == "2000-01-01"
    tracer.close()


USES: dict[str, Callable[[FrozenClock], Any]] = {
    "now": lambda clock: clock.now,
    "time": lambda clock: clock.time(),
    "time_ns": lambda clock: clock.time_ns(),
    "monotonic_ns": lambda clock: clock.monotonic_ns(),
    "advance": lambda clock: clock.advance(1),
    "move_to": lambda clock: clock.move_to("2000-01-01"),
    "rate": lambda clock: setattr(clock, "rate", 1),
    "processes": lambda clock: clock.processes,
    "popen": lambda clock: clock.popen(["true"]),
    "run": lambda clock: clock.run(["true"]),
    "check_output": lambda clock: clock.check_output(["true"]),
}
each_use = pytest.mark.parametrize("use", USES)


@each_use
@pytest.mark.parametrize("is_used_before", [True, False], ids=["used", "unused"])
def test_use_after_close(use: str, is_used_before: bool) -> None:
    clock = FrozenClock()
    if is_used_before:
        clock.run(["true"])
    clock.close()
    clock.close()
    with pytest.raises(ClockClosed):
        USES[use](clock)
    clock.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@each_use
def test_use_after_fork(use: str) -> None:
    with FrozenClock("2000-01-01") as clock:
        program = clock.popen(["cat"], stdin=PIPE, stdout=PIPE)
        child = os.fork()
        if child == 0:
            try:
                USES[use](clock)
                os._exit(1)
            except ClockClosed:
                os._exit(0)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0) == (child, 0)
        assert program.communicate(b"x", timeout=CEILING_S)[0] == b"x"
        assert date(clock) == "2000-01-01"


def test_closed_by_many_threads() -> None:
    clock = FrozenClock()
    program = clock.popen(["sleep", "1000"])
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: clock.close(), range(8)))
    assert program.returncode == -signal.SIGKILL


def test_used_by_many_threads() -> None:
    """Programs start and are waited for in eight, the clock is moved in a ninth."""
    with FrozenClock("2000-01-01") as clock, ThreadPoolExecutor(9) as threads:
        is_over = threading.Event()

        def move() -> int:
            moves = 0
            while not is_over.is_set():
                clock.advance(days=1)
                assert clock.now.hour == 0
                moves += 1
            return moves

        def start(number: int) -> None:
            for _ in range(10):
                script = f"date -u +%T; exit {number}"
                done = clock.run(["sh", "-c", script], stdout=PIPE, timeout=CEILING_S)
                assert (done.stdout, done.returncode) == (b"00:00:00\n", number)
                assert all(process.pid != os.getpid() for process in clock.processes)

        mover = threads.submit(move)
        try:
            list(threads.map(start, range(8)))
        finally:
            is_over.set()
        moves = mover.result()
        assert clock.now == datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=moves)


def test_threads_that_end_with_programs_running() -> None:
    """A program belongs to the clock, not to the thread that started it."""
    with FrozenClock("2000-01-01") as clock:
        programs: list[Any] = []

        def start() -> None:
            script = "read x; date -u +%F"
            programs.append(clock.popen(["sh", "-c", script], stdin=PIPE, stdout=PIPE))

        for _ in range(5):
            thread = threading.Thread(target=start)
            thread.start()
            thread.join()
        for program in programs:
            assert program.communicate(b"\n", timeout=CEILING_S) == (b"2000-01-01\n", None)


THIEF = """
import os, threading
from subprocess import PIPE
from pytest_vdsotime import FrozenClock

stolen = []

def steal():
    while True:
        try:
            stolen.append({wait})
        except ChildProcessError:
            continue

threading.Thread(target=steal, daemon=True).start()
with FrozenClock("2000-01-01") as clock:
    script = "date -u +%F; (date -u +%F); date -u +%F | cat"
    for _ in range(50):  # on a busy machine the thief may be late
        program = clock.popen(["sh", "-c", script], stdout=PIPE)
        assert program.communicate(timeout={ceiling})[0] == b"2000-01-01\\n" * 3
        if stolen:
            break
assert stolen
"""


@pytest.mark.long
@pytest.mark.parametrize("wait", ["os.wait()", "os.waitpid(-1, 0)"])
def test_stolen_stops(wait: str) -> None:
    """Another thread waits for any child of the process, and so is shown stops that are the
    tracer's. Everything still starts, reads the clock and ends; whose wait is shown the exit status
    is anybody's guess. In a process of its own: such a thread cannot be ended."""
    script = THIEF.format(wait=wait, ceiling=CEILING_S)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=2 * CEILING_S)


def test_the_tracer_is_long_about_one_program() -> None:
    """As on a slow machine: it is interrupted then, while a ring of the waker that came with
    another stop is yet to be answered."""
    with FrozenClock() as clock:
        program = clock.popen(["sleep", "1000"])
        clock.settle()  # the next stop is the waker's
        tracer, _world = clock.session.start_tracing()
        stopping = threading.Timer(1, program.send_signal, [signal.SIGWINCH])
        has_begun = threading.Event()

        def take_long(loop: Any) -> None:
            doorbell = loop.stops._waker
            doorbell.ring()
            ring = loop._fastpath.wait_any()
            assert ring.tid == doorbell.pid
            loop.stops._postponed.append(ring)
            stopping.start()
            has_begun.set()
            loop.handle(loop.stops.next_of(program.pid))

        tracer.call_later(take_long)
        assert has_begun.wait(CEILING_S)
        stopping.join()
        assert clock.run(["true"]).returncode == 0
        program.kill()
        program.wait(CEILING_S)


# How a program comes by its clock: the shared page, or a private copy where it may open no file.
COPIES = {"shared": [], "copied": ["sh", "-c", 'ulimit -n 3; exec "$0"']}


@pytest.mark.parametrize("copy", COPIES)
def test_has_read_clock(copy: str, build: Builder) -> None:
    with FrozenClock("2000-01-01") as clock:
        command = [*COPIES[copy], build.c("helpers/on_demand")]
        program = clock.popen(command, stdin=PIPE, stdout=PIPE, text=True, bufsize=1)
        assert program.stdin and program.stdout
        questions, answers = program.stdin, program.stdout

        def ask(what: str) -> str:
            questions.write(what + "\n")
            return str(answers.readline())

        def process() -> Any:
            (only,) = clock.processes
            return only

        assert ask("nothing") == "-\n"
        assert process().pid == program.pid and process().ppid == os.getpid()
        assert process().argv[0].endswith("on_demand-static")
        assert process().has_read_clock is False
        clock.advance(1)
        assert ask("nothing") == "-\n"
        assert process().has_read_clock is False
        assert ask("read") == "946684801\n"
        assert process().has_read_clock is True
        program.communicate(timeout=CEILING_S)
        assert clock.processes == []


def test_the_tree() -> None:
    script = "sleep 1000 & (sleep 1000; :) & echo; wait"
    with FrozenClock() as clock:
        program = clock.popen(["sh", "-c", script], stdout=PIPE)
        assert program.stdout
        with program.stdout:
            program.stdout.readline()
        tree = {process.pid: process for process in clock.processes}
        assert tree[program.pid].ppid == os.getpid()
        assert tree[program.pid].argv == program.args
        assert all(process.ppid in {os.getpid(), *tree} for process in tree.values())
        assert len(tree) >= 3
