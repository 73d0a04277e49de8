"""Deadlines passed natively, under conditions that are not good."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.movement import Movement, Pending
from pytest_vdsotime.tracer.state import ClockState
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 50
TICKS = "import time\nwhile True: time.sleep(0.1)"
WORKS = """
import os, threading, time
for _ in range(3):
    time.sleep(0.95)
    for _ in range({}):
        {}
"""
SLEEPER = "import time\nfor _ in range(400): time.sleep(1)"

# All of them sleep for an hour; the test process opens what files it may.
FEW_DESCRIPTORS = """
import os, resource, sys
from subprocess import PIPE
from pytest_vdsotime import FrozenClock, NotSettled, progress

progress.FIRST_S = 1000  # a slow machine is not spoken of
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
with FrozenClock(0) as clock:
    threads = clock.popen([sys.argv[1], "300"], stdin=PIPE, stdout=PIPE, text=True, bufsize=1)
    assert threads.stdout.readline() == "up\\n"
    loop = clock.popen([sys.argv[2], "poll", "10000000", "1000000"], stdout=PIPE)
    clock.settle()
    clock.advance(10)
    mine = []
    while len(mine) < 150:
        mine.append(os.open("/dev/null", os.O_RDONLY))
    clock.advance(10)
    try:
        while True:
            mine.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        clock.advance(10, timeout=0.5)
    except NotSettled as error:
        print("Too many open files" in str(error))
    for one in mine:
        os.close(one)
    clock.advance(10)
    loop.kill()
    clock.advance(hours=1)
    threads.stdin.write("\\n")
    print(threads.stdout.readline().strip())
    threads.kill()
"""


def test_few_descriptors(build: Builder) -> None:
    """A part of what may be opened is left to the test; and when nothing is left that is said."""
    programs = [build.c("helpers/many_sleepers"), build.c("helpers/loop_of")]
    command = [sys.executable, "-W", "error", "-c", FEW_DESCRIPTORS, *programs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CEILING_S)
    assert (done.stdout, done.stderr) == ("True\n300\n", "")


@pytest.fixture
def by_python(monkeypatch: pytest.MonkeyPatch) -> list[Pending]:
    """What has come to its end without the engine: on a busy machine some does."""
    fire = Movement.fire
    fired: list[Pending] = []

    def counted(self: Movement, world: ClockState, step_ns: int, due: Sequence[Pending]) -> None:
        fired.extend(due)
        fire(self, world, step_ns, due)

    monkeypatch.setattr(Movement, "fire", counted)
    return fired


def test_whoever_is_held(by_python: list[Pending]) -> None:
    """Which tasks the native code holds at the entries of sleeps makes no difference to it."""
    with FrozenClock(0) as clock:
        sleepers = [clock.popen([sys.executable, "-c", SLEEPER]) for _ in range(2)]
        clock.settle()
        clock.advance(400)
        assert [sleeper.wait(CEILING_S) for sleeper in sleepers] == [0, 0]
    assert len(by_python) < 200  # of 800


@pytest.mark.parametrize("autojump", [False, True])
def test_several_clocks(autojump: bool, by_python: list[Pending]) -> None:
    """Each is passed natively while the others wait."""
    with (
        closing(Tracer()) as tracer,
        clock_on(tracer, 0) as still,
        clock_on(tracer, 0, autojump=autojump) as one,
        clock_on(tracer, 0, autojump=autojump) as other,
    ):
        command = [sys.executable, "-c", SLEEPER]
        stays = still.popen(command)
        for clock in (one, other):
            sleeper = clock.popen(command)
            if not autojump:
                clock.settle()
                clock.advance(400)
            assert sleeper.wait(CEILING_S) == 0
        assert [round(clock.time()) for clock in (still, one, other)] == [0, 400, 400]
        assert stays.poll() is None
        stays.kill()
    assert len(by_python) < 200  # of 800


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_many_come_and_go(kind: str) -> None:
    """Between two deadlines of another program."""
    new = {
        "threads": "t = threading.Thread(target=int); t.start(); t.join()",
        "processes": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
    }[kind]
    count = {"threads": 1000, "processes": 100}[kind]
    with FrozenClock(0) as clock:
        ticking = clock.popen([sys.executable, "-c", TICKS])
        working = clock.popen([sys.executable, "-c", WORKS.format(count, new)])
        clock.settle()
        clock.advance(10, timeout=CEILING_S)
        assert working.wait(CEILING_S) == 0
        assert ticking.poll() is None
        ticking.kill()


def test_one_that_is_killed_while_it_is_held() -> None:
    """A sleep that is held at its entry ends with its program."""
    with FrozenClock(0) as clock:
        sleeping = clock.popen(["sleep", "100"])
        killing = clock.popen(["sh", "-c", f"sleep 1; kill -KILL {sleeping.pid}; sleep 50"])
        clock.settle()
        clock.advance(60)
        assert killing.wait(CEILING_S) == 0
        assert sleeping.wait(CEILING_S) == -9


@pytest.mark.parametrize("autojump", [False, True])
def test_programs_that_have_a_private_copy(
    autojump: bool, public_dir: Path, build: Builder, by_python: list[Pending]
) -> None:
    """Those of another user cannot open the page: the copies of all of them are written to."""
    program = str(shutil.copy(build.c("helpers/loop_of"), public_dir / "loop_of"))
    with FrozenClock(0, monotonic="freeze", autojump=autojump) as clock:
        programs = [
            clock.popen([program, "poll", ms, "400"], stdout=subprocess.PIPE, text=True, user=user)
            for ms, user in (("1000000", 65534), ("1000000", 65534), ("1000000", 0))
        ]
        if not autojump:
            clock.settle()
            clock.advance(400)
        outputs = [one.communicate(timeout=CEILING_S)[0] for one in programs]
    slack_s = 1 if autojump else 1e-4  # what keeps programs busy for long takes time
    assert [float(one) for one in outputs] == pytest.approx([400] * 3, abs=slack_s)
    assert len(by_python) < 400  # of 1200
