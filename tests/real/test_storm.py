"""Storms: thousands of short programs from several threads of the test, while the clock is moved.

`make stress` has them last long: VDSOTIME_STORM_S says how many seconds each, and
VDSOTIME_STORM_SEEDS which seeds. A seed that fails is to become a row of SEEDS, or what it has
found a test of its own, as those at the end.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from random import Random
from subprocess import PIPE
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock, NotSettled, UnsupportedProgram
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.thread import Tracer

STORM_S = float(os.environ.get("VDSOTIME_STORM_S", "1.5"))
CEILING_S = 30
LIMIT_S = STORM_S + 6 * CEILING_S
StartStorm = Callable[..., Any]
Tries = Callable[[int], int]

#: Each kind of clock, and what is true of it: see `Storm`.
WORLDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "flows": ({"rate": 1}, {"together"}),
    "rates": ({"rate": 1, "monotonic": "rate"}, {"together", "alike"}),
    "stands": ({"monotonic": "freeze", "grace": 0}, {"together", "alike", "stands", "creeps"}),
    "jumps": ({"autojump": True}, {"jumps"}),
    "strides": ({"rate": 1, "stride": 0.5}, {"together"}),
    "files": ({"rate": 1, "files": "follow"}, {"together"}),
    "skips": ({"rate": 1, "skip": ["*_off_clock"]}, {"together", "skips"}),
    "default": ({}, set()),
}
#: By each of them, and whether the tracer is native; the seeds of the first rows are for all.
SEEDS = [int(one) for one in os.environ.get("VDSOTIME_STORM_SEEDS", "1").split(",")]
ROWS = [(world, seed, True) for world in WORLDS for seed in SEEDS] + [
    (world, seed, False) for world in ("flows", "jumps") for seed in SEEDS
]


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize(("world", "seed", "is_native"), ROWS)
def test_a_storm(world: str, seed: int, is_native: bool, storm: StartStorm) -> None:
    parameters, traits = WORLDS[world]
    with (
        closing(Tracer(is_native=is_native)) as tracer,
        clock_on(tracer, "2030-01-01", **parameters) as clock,
    ):
        one = storm(clock, seed, traits)
        one.run()
    print(f"{one.started / STORM_S:.0f} programs a second; {one.calls}")


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("seed", SEEDS)
def test_storms_of_several_clocks(seed: int, storm: StartStorm) -> None:
    """Two have a tracer in common, one has its own."""
    with closing(Tracer()) as tracer, ExitStack() as clocks:
        names = ["flows", "rates", "default"]
        storms = []
        for number, name in enumerate(names):
            parameters, traits = WORLDS[name]
            made = clock_on(tracer, 0, **parameters) if number else FrozenClock(0, **parameters)
            storms.append(storm(clocks.enter_context(made), seed + number, {*traits, "is one"}))
        first, *others = storms
        first.also(*(other.run for other in others))
        first.run()
        print(f"{sum(one.started for one in storms) / STORM_S:.0f} programs a second")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*let it go on first")
@pytest.mark.filterwarnings("ignore:.*shares its memory with")
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("seed", SEEDS)
def test_programs_that_come_and_go(seed: int, storm: StartStorm) -> None:
    """They run already and are attached to in the midst of whatever they do, with their children.

    A child that is stopped just then stays in real time, as a warning says.
    """
    with FrozenClock("2030-01-01", rate=1) as clock:
        one = storm(clock, seed, {"together", "is one"})
        visits = [0, 0]
        one.also(*(partial(visit, one, 1000 * seed + number, visits) for number in (800, 801)))
        one.run()
    print(f"{visits[0]} programs attached to, {visits[1]} let go before they ended")
    assert all(visits)


def visit(storm: Any, seed: int, visits: list[int]) -> None:
    random = Random(seed)
    while storm.lasts or not (all(visits) or storm.faults):  # a busy machine may take longer
        own = random.randrange(1, 10**6)
        environment = {**storm.environment, "STORM_VISITED": "yes"}
        command = [storm.command, str(own), "2"]
        with subprocess.Popen(
            command, env=environment, stdout=PIPE, stderr=PIPE, text=True
        ) as program:
            time.sleep(random.random() / 100)
            try:
                attached = storm.clock.attach(program.pid, children=True)
            except ProcessLookupError:
                attached = None
            except UnsupportedProgram as error:
                assert "shares its memory with" in str(error)
                attached = None
            if attached is not None:
                visits[0] += 1
                time.sleep(random.random() / 50)
                attached.close()
            visits[1] += attached is not None and program.poll() is None
            storm.ended(program, own)


# --- what storms have found ----------------------------------------------------------------------

#: It counts how often a periodic timerfd has expired. As soon as it is told to, and has been busy
#: for so long, it says how often that was, and how often it can have been.
COUNTS = """
import ctypes, os, struct, sys, time
libc, period_ns = ctypes.CDLL(None), 10**7
timer = libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
begin_ns = time.monotonic_ns()
libc.timerfd_settime(timer, 0, struct.pack("4q", 0, period_ns, 0, period_ns), None)
begun_ns = time.monotonic_ns()
print("up", flush=True)
busy_ns = time.monotonic_ns() + int(sys.argv[1])
while time.monotonic_ns() < busy_ns:
    pass
sys.stdin.readline()
count = 0
for _ in range(50):
    count += struct.unpack("Q", os.read(timer, 8))[0]
    now_ns = time.monotonic_ns()
    least, most = (now_ns - begun_ns) // period_ns, (now_ns - begin_ns) // period_ns
    if count >= least:
        break
print(count, least, most, flush=True)
"""


def check_count(busy_s: float, meanwhile: Callable[[FrozenClock], None]) -> None:
    with FrozenClock(0, rate=1) as clock:
        command = [sys.executable, "-c", COUNTS, str(round(busy_s * 1e9))]
        program = clock.popen(command, stdin=PIPE, stdout=PIPE, text=True)
        assert program.stdout and program.stdout.readline() == "up\n"
        meanwhile(clock)
        told, _ = program.communicate("\n", timeout=CEILING_S)
        count, least, most = map(int, told.split())
        assert least <= count <= most


def test_a_timer_beside_a_program_that_does_not_rest() -> None:
    """It expired twice for each time, once by the kernel and once by the clock."""

    def meanwhile(clock: FrozenClock) -> None:
        with pytest.raises(NotSettled):
            clock.advance(3600, timeout=0.1)

    check_count(0.5, meanwhile)


def test_a_timer_whose_clock_changes_its_rate() -> None:
    """Each change made it later by the time that the change took."""

    def meanwhile(clock: FrozenClock) -> None:
        for _ in range(200):
            clock.rate = 2
            clock.rate = 1

    check_count(0, meanwhile)


#: It reads a periodic timerfd without waiting, until it is told to end: how often it has expired
#: then, how often it can have, and how often that was at any moment more than it could.
READS = """
import ctypes, os, struct, sys, threading, time
libc, period_ns = ctypes.CDLL(None), 10**6
timer = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
begin_ns = time.monotonic_ns()
libc.timerfd_settime(timer, 0, struct.pack("4q", 0, period_ns, 0, period_ns), None)
begun_ns = time.monotonic_ns()
print("up", flush=True)
ended, count, surplus = threading.Event(), 0, 0
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set())).start()
while not ended.is_set() or count < least:
    try:
        count += struct.unpack("Q", os.read(timer, 8))[0]
    except BlockingIOError:
        pass
    now_ns = time.monotonic_ns()
    least, most = (now_ns - begun_ns) // period_ns, (now_ns - begin_ns) // period_ns
    surplus = max(surplus, count - most)
print(surplus, flush=True)
"""


def test_a_timer_that_is_read_as_it_expires() -> None:
    """It told again how often it had expired, and so had a program that is busy hear of more."""
    with FrozenClock(0, rate=2, monotonic="rate") as clock:
        program = clock.popen([sys.executable, "-c", READS], stdin=PIPE, stdout=PIPE, text=True)
        assert program.stdout and program.stdout.readline() == "up\n"
        time.sleep(2)
        told, _ = program.communicate("\n", timeout=CEILING_S)
        assert told == "0\n" or not timers_can_be_emptied()


def timers_can_be_emptied() -> bool:
    """Without waiting: since Linux 6.10."""
    timer = ctypes.CDLL(None).timerfd_create(time.CLOCK_MONOTONIC, 0)
    try:
        os.preadv(timer, [bytearray(8)], -1, os.RWF_NOWAIT)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(timer)
    return True


#: It waits for 0.3 s, and says how long that was.
WAITS = """
import ctypes, select, struct, sys, threading, time
libc, rest = ctypes.CDLL(None), struct.pack("qq", 0, 300_000_000)
waits = {
    "nanosleep": lambda: libc.nanosleep(rest, None),
    "sleep": lambda: time.sleep(0.3),
    "poll": lambda: select.poll().poll(300),
    "select": lambda: select.select([], [], [], 0.3),
    "epoll": lambda: select.epoll().poll(0.3),
    "futex": lambda: threading.Event().wait(0.3),
}
print("up", flush=True)
begin_ns = time.monotonic_ns()
waits[sys.argv[1]]()
print(time.monotonic_ns() - begin_ns)
"""


@pytest.mark.parametrize("wait", ["nanosleep", "sleep", "poll", "select", "epoll", "futex"])
@pytest.mark.parametrize("rate", [0, 0.1])
def test_a_stopped_program_whose_clock_slows_down(wait: str, rate: float) -> None:
    """As it went on, the kernel ended its wait when it would have without that."""
    with FrozenClock(0, rate=1, monotonic="rate") as clock:
        program = clock.popen([sys.executable, "-c", WAITS, wait], stdout=PIPE, text=True)
        assert program.stdout and program.stdout.readline() == "up\n"
        clock.settle()
        program.send_signal(signal.SIGSTOP)
        while "is stopped by a signal" not in clock.describe():
            pass
        clock.rate = rate
        time.sleep(0.4)
        clock.rate = 1
        program.send_signal(signal.SIGCONT)
        told, _ = program.communicate(timeout=CEILING_S)
        assert int(told) >= 300_000_000


#: It says whether its timer of 0.15 ms goes on.
GOES_ON = """
import ctypes, os, select, struct, sys, time
timer = ctypes.CDLL(None).timerfd_create(time.CLOCK_MONOTONIC, 0)
ctypes.CDLL(None).timerfd_settime(timer, 0, struct.pack("4q", 0, 150000, 0, 150000), None)
print("up", flush=True)
sys.stdin.readline()
for _ in range(20):
    if not select.select([timer], [], [], 1)[0]:
        sys.exit("it does not expire any more")
    os.read(timer, 8)
"""


def test_a_timer_that_is_due_as_the_lines_stop(tries: Tries) -> None:
    """The kernel's interrupt was still to come, and it never expired again."""
    with FrozenClock(0, rate=1) as clock:
        for _ in range(tries(30)):
            command = [sys.executable, "-c", GOES_ON]
            program = clock.popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
            assert program.stdout and program.stdout.readline() == "up\n"
            for _ in range(100):
                clock.advance(0.0001)
            _, said = program.communicate("\n", timeout=CEILING_S)
            assert (program.returncode, said) == (0, "")


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "python"])
def test_an_advance_right_behind_a_sigcont(is_native: bool, tries: Tries) -> None:
    """A program that goes on has its say before time passes, however late it gets a processor."""
    script = (
        "import os, signal, time\n"
        "while True:\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
        "    print(time.monotonic_ns(), flush=True)\n"
    )
    with (
        closing(Tracer(is_native=is_native)) as tracer,
        clock_on(tracer, 0, monotonic="freeze") as clock,
    ):
        program = clock.popen([sys.executable, "-c", script], stdout=PIPE, text=True)
        assert program.stdout
        for _ in range(tries(200)):
            while "is stopped by a signal" not in clock.describe():
                pass
            before_ns = clock.monotonic_ns()
            program.send_signal(signal.SIGCONT)
            clock.advance(hours=1)
            assert int(program.stdout.readline()) == before_ns
