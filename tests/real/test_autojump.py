"""Autojump: where every program waits, on to the next deadline. Days pass at once, in order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder
    from tests.real.conftest import Start

START = "2030-01-01T00:00:00Z"
VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]
CEILING_S = 30  # of real time, for what takes days

Find = Callable[[str], str]


def after(clock: FrozenClock) -> timedelta:
    return clock.now - datetime.fromisoformat(START)


def test_a_long_sleep() -> None:
    with FrozenClock(START, autojump=True) as clock:
        before = clock.monotonic_ns()
        assert clock.run(["sleep", "100000"], timeout=CEILING_S).returncode == 0
        assert after(clock) == timedelta(seconds=100_000)
        assert clock.monotonic_ns() - before == 100_000 * 10**9 + 1  # it is later after a wait


def test_a_suite_that_looks_once() -> None:
    """CPython's own, which asserts after each wait that it took as long as it was to."""
    command = [*VDSOTIME, "--autojump", "--", sys.executable, "-m", "test", "-u", "walltime"]
    program = subprocess.run(
        [*command, "test_eintr"], capture_output=True, text=True, timeout=2 * CEILING_S
    )
    assert program.returncode == 0, program.stdout + program.stderr
    assert "Result: SUCCESS" in program.stdout


def test_many_sleeps_of_one_shell() -> None:
    script = "for i in {1..100}; do sleep 3600; done; date -u '+%F %T'"
    with FrozenClock(START, autojump=True) as clock:
        output = clock.check_output(["bash", "-c", script], text=True, timeout=CEILING_S)
        assert output == "2030-01-05 04:00:00\n"
        assert after(clock) == timedelta(hours=100)


READ_BETWEEN_SLEEPS = 'for (1..200) { sleep 61; print time, "\n" }'
ADVANCES = timedelta(minutes=10), timedelta(hours=3), timedelta(seconds=1), timedelta(hours=1)


@pytest.mark.parametrize("parameters", [{"autojump": True}, {"monotonic": "freeze"}, {}], ids=str)
def test_sleeps_of_a_program_that_is_alone(parameters: dict[str, Any]) -> None:
    """They pass without a word to the tracer, but for the last one before an advance ends."""
    with FrozenClock(START, **parameters) as clock:
        program = clock.popen(["perl", "-e", READ_BETWEEN_SLEEPS], stdout=PIPE, text=True)
        if "autojump" not in parameters:
            # Between two advances the monotonic line flows on, where it is not frozen.
            for delta in ADVANCES if parameters else [sum(ADVANCES, timedelta())]:
                before = clock.now
                clock.advance(delta)
                assert clock.now == before + delta
        output, _ = program.communicate(timeout=CEILING_S)
        start = datetime.fromisoformat(START).timestamp()
        missing = [61 * i - float(line) + start for i, line in enumerate(output.split(), start=1)]
        assert len(missing) == 200
        # Where the monotonic line flows, a program that is kept from its processor meets the frozen
        # wall line a little before.
        assert set(missing) <= ({0} if parameters else {0, 1})


def test_a_signal_among_sleeps() -> None:
    script = (
        '$SIG{TERM} = sub { print "caught\n"; exit 3 }; $| = 1; print "ready\n"; sleep 1 while 1'
    )
    with FrozenClock(START, autojump=True) as clock:
        program = clock.popen(["perl", "-e", script], stdout=PIPE, text=True)
        assert program.stdout
        assert program.stdout.readline() == "ready\n"
        program.terminate()
        assert program.communicate(timeout=CEILING_S)[0] == "caught\n"
        assert program.returncode == 3


TURNS = """
turn() { for i in {1..10}; do sleep 2; echo "$1$i $(date +%S)" >>"$0"; done; }
"""
WRITTEN = [f"{who}{i + 1} {2 * i + at:02}" for i in range(10) for who, at in (("a", 2), ("b", 3))]


def test_two_loops_take_turns(tmp_path: Path) -> None:
    written = tmp_path / "written"
    script = TURNS + "(turn a) & (sleep 1; turn b) & wait"
    with FrozenClock(START, autojump=True) as clock:
        clock.run(["bash", "-c", script, str(written)], check=True, timeout=CEILING_S)
        assert written.read_text().splitlines() == WRITTEN
        assert after(clock) == timedelta(seconds=21)


def test_two_programs_take_turns(tmp_path: Path) -> None:
    """Both begin at the end of the input that they share."""
    written = tmp_path / "written"
    reader, writer = os.pipe()
    with FrozenClock(START, autojump=True) as clock:
        programs = [
            clock.popen(["bash", "-c", f"{TURNS} read; {begin}", str(written)], stdin=reader)
            for begin in ("turn a", "sleep 1; turn b")
        ]
        clock.settle()
        os.close(reader)
        os.close(writer)
        assert [program.wait(CEILING_S) for program in programs] == [0, 0]
        assert written.read_text().splitlines() == WRITTEN


ASYNCIO = """
import asyncio, datetime
def say(what):
    print(what, datetime.datetime.now(datetime.timezone.utc).strftime("%F %R"))
async def every(name, **delta):
    for _ in range(3):
        await asyncio.sleep(datetime.timedelta(**delta).total_seconds())
        say(name)
async def main():
    await asyncio.gather(every("day", days=1), every("week", weeks=1), every("37h", hours=37))
asyncio.run(main())
say("end")
"""


def test_asyncio_for_weeks() -> None:
    with FrozenClock(START, autojump=True) as clock:
        output = clock.check_output([sys.executable, "-c", ASYNCIO], text=True, timeout=CEILING_S)
    assert output.splitlines() == [
        "day 2030-01-02 00:00",
        "37h 2030-01-02 13:00",
        "day 2030-01-03 00:00",
        "day 2030-01-04 00:00",
        "37h 2030-01-04 02:00",
        "37h 2030-01-05 15:00",
        "week 2030-01-08 00:00",
        "week 2030-01-15 00:00",
        "week 2030-01-22 00:00",
        "end 2030-01-22 00:00",
    ]


def test_go_by_itself(build: Builder) -> None:
    """Work and waits mixed: the wall clock shows the waits alone, and of those of Go's own runtime
    (20 us) what it met when nothing else was to be done."""
    with FrozenClock(START, autojump=True) as clock:
        output = clock.check_output([build.go("helpers/timers")], text=True, timeout=CEILING_S)
        assert output.splitlines()[-1] == "tick 60 60"
        assert timedelta(0) <= after(clock) - timedelta(hours=1) < timedelta(milliseconds=20)


def test_node_and_java_by_themselves(real_program: Find, tmp_path: Path) -> None:
    source = tmp_path / "Days.java"
    source.write_text(
        "public class Days { public static void main(String[] a) throws Exception {"
        " for (int i = 0; i < 3; i++) Thread.sleep(60_000);"
        " System.out.println(java.time.Instant.now().toString().substring(0, 16)); } }"
    )
    java = [real_program("java"), "-XX:-UsePerfData", "-XX:+UseSerialGC", str(source)]
    eleven_days = "setTimeout(() => console.log(new Date().toISOString().slice(0, 10)), 1e9)"
    node = [real_program("node"), "-e", eleven_days]
    for command, output in ((java, "2030-01-01T00:03\n"), (node, "2030-01-12\n")):
        with FrozenClock(START, autojump=True) as clock:
            assert clock.check_output(command, text=True, timeout=CEILING_S) == output


def test_work_takes_the_time_that_it_takes() -> None:
    """While anything computes nothing jumps, and what waits beside it waits as long as it says."""
    script = "sleep 1000 & head -c 200M /dev/zero | sha256sum >$0; date +%s; wait; date +%s"
    with FrozenClock(0, autojump=True) as clock:
        command = ["bash", "-c", script, "/dev/null"]
        output = clock.check_output(command, text=True, timeout=CEILING_S)
    worked, waited = map(int, output.split())
    assert 0 <= worked <= CEILING_S
    assert waited == 1000


def test_a_threshold_leaves_time_for_what_is_outside(start: Start) -> None:
    """The program waits for the test, an hour at most: that comes only when the test is silent."""
    script = 'echo ready; while read -t 3600 line; do echo "got $line"; done; date +%s'
    with FrozenClock(0, autojump=2.0) as clock:
        program = start(clock, ["bash", "-c", script])
        assert program.popen.stdin
        for number in range(20):
            program.popen.stdin.write(b"%d\n" % number)
            assert program.line() == f"got {number}"
        began = time.monotonic()
        assert program.line() == "3600"
        assert time.monotonic() - began >= 1.9
        assert program.popen.wait(CEILING_S) == 0


def test_nothing_to_jump_to() -> None:
    """What waits for no time waits on; the clock stays, and goes on when something comes."""
    with FrozenClock(START, autojump=True) as clock:
        cat = clock.popen(["cat"], stdin=PIPE, stdout=PIPE)
        clock.settle()
        assert after(clock) == timedelta(0)
        clock.run(["sleep", "60"], check=True, timeout=CEILING_S)
        assert after(clock) == timedelta(seconds=60)
        assert cat.communicate(b"still here", timeout=CEILING_S)[0] == b"still here"


# The command.


@pytest.mark.parametrize(
    ("script", "printed", "status"),
    [
        ("sleep 100000; date -u +%FT%T", "2030-01-02T03:46:40\n", 0),
        ("timeout 1d sleep 7d; echo $?; exit 7", "124\n", 7),
        ("(sleep 2d; echo b) & (sleep 1d; echo a) & wait; date -u +%d", "a\nb\n03\n", 0),
    ],
    ids=["sleep", "timeout", "order"],
)
def test_command(script: str, printed: str, status: int) -> None:
    command = [*VDSOTIME, "--at", START, "--autojump", "--", "bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CEILING_S)
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", status)


def test_command_without_a_shell() -> None:
    command = [*VDSOTIME, "--at", START, "--autojump", "--", "sleep", "100000"]
    done = subprocess.run(command, capture_output=True, timeout=CEILING_S)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)


# Programs that hung, or were told wrong times.

HELD_LATE = """
import time
for _ in range(3):
    end = time.thread_time() + 0.15
    while time.thread_time() < end: pass
    time.sleep(0)
    time.sleep(1e-6)
print("done")
"""
MANY_CALLS = """
import os, select
select.select([], [], [], 0.5)
for _ in range(60_000): os.getppid()
print("done")
"""
SPINS = """
import threading, time
count, seen = 0, threading.Event()
def sleeper():
    global count
    for _ in range(20):
        time.sleep(0.00002)
        count += 1
        seen.wait()
        seen.clear()
threading.Thread(target=sleeper).start()
for i in range(20):
    while count == i: pass
    seen.set()
print("done")
"""
# Nagle's algorithm holds the second write until the first is acknowledged, some 40 ms later.
HELD_BACK = """
import socket, time
with socket.create_server(("127.0.0.1", 0)) as server:
    a = socket.create_connection(server.getsockname())
    b, _ = server.accept()
a.settimeout(30)
for _ in range(4):
    a.send(b"x" * 500), b.recv(999), b.send(b"y" * 500), a.recv(999)
b.send(b"z"), b.send(b"z" * 10), b.send(b"end")
begun, got = time.monotonic(), b""
while len(got) < 14: got += a.recv(999)
print("done" if time.monotonic() - begun < 1 else "late")
"""


@pytest.mark.parametrize("script", [HELD_LATE, MANY_CALLS, SPINS, HELD_BACK], ids=lambda _: "")
def test_waits_beside_work(script: str) -> None:
    with FrozenClock(START, autojump=True) as clock:
        output = clock.check_output([sys.executable, "-c", script], text=True, timeout=CEILING_S)
        assert output == "done\n"


def test_what_is_left_behind_ends() -> None:
    """Nothing jumps for it any more, but waiting takes time again."""
    script = "(sleep 0.5; echo behind) & echo ahead"
    command = [*VDSOTIME, "--autojump", "--", "bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CEILING_S)
    assert done.stdout == "ahead\nbehind\n"
