"""Attaching and releasing end no wait, lose nothing and hide no signal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder

# The program's other process, which only sends it signals, stays in real time.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* has started before:pytest_vdsotime.RealTimeWarning"
)

CEILING_S = 30
Tries = Callable[[int], int]
TARGETS = ["static", "dynamic", "i386"]
LIMITS = 5  # how many of its waits have one


def wait_until_asleep(pid: int) -> None:
    """Every thread of it waits."""
    deadline_s = time.monotonic() + CEILING_S
    while time.monotonic() < deadline_s:
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        if all(stat.rpartition(")")[2].split()[0] == "S" for stat in stats):
            return
        time.sleep(0.001)
    raise AssertionError("it does not wait")


@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
@pytest.mark.parametrize("target", TARGETS)
def test_waits_go_on(target: str, monotonic: str, build: Builder, tries: Tries) -> None:
    """Through attach and release, again and again, in real time."""
    command = [build.c("helpers/attach_waits", target)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stdout and program.stdout.readline() == "up\n"
        wait_until_asleep(program.pid)
        with FrozenClock("1970-01-01", monotonic=monotonic) as clock:
            for _ in range(tries(32)):
                attached = clock.attach(program.pid)
                clock.advance(1)
                attached.close()
        output, errors = program.communicate("\n", timeout=CEILING_S)
    assert (output, errors, program.returncode) == ("EXIT-SUCCESS\n", "", 0)


@pytest.mark.parametrize(("monotonic", "moved_s"), [("flow", 20), ("freeze", 1)])
@pytest.mark.parametrize("target", TARGETS)
def test_time_limits_expire_in_real_time(
    target: str, monotonic: str, moved_s: int, build: Builder
) -> None:
    """While it is attached to, whatever the clock says by then: more, or less."""
    command = [build.c("helpers/attach_waits", target)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stdout and program.stdout.readline() == "up\n"
        wait_until_asleep(program.pid)
        threads = len(os.listdir(f"/proc/{program.pid}/task"))
        with FrozenClock("1970-01-01", monotonic=monotonic) as clock:
            attached = clock.attach(program.pid)
            clock.advance(moved_s)
            deadline_s = time.monotonic() + CEILING_S
            while len(os.listdir(f"/proc/{program.pid}/task")) > threads - LIMITS:
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            attached.close()
        output, errors = program.communicate("\n", timeout=CEILING_S)
    assert (output, errors, program.returncode) == ("EXIT-SUCCESS\n", "", 0)


@pytest.mark.parametrize("target", TARGETS)
def test_waits_end_under_the_clock(target: str, build: Builder) -> None:
    command = [build.c("helpers/attach_waits", target)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stdout and program.stdin and program.stdout.readline() == "up\n"
        wait_until_asleep(program.pid)
        with FrozenClock("1970-01-01") as clock:
            clock.attach(program.pid)
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "EXIT-SUCCESS\n"
        program.wait(CEILING_S)


@pytest.mark.parametrize("restart", [[], ["restart"]], ids=["plain", "SA_RESTART"])
@pytest.mark.parametrize("way", range(4), ids=["sigsuspend", "epoll_pwait", "ppoll", "pselect"])
def test_no_signal_is_lost(way: int, restart: list[str], build: Builder, tries: Tries) -> None:
    """One comes at any moment of attach and release, and each ends one wait."""
    command = [build.c("helpers/attach_signals"), str(way), *restart]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, bufsize=0) as program:
        assert program.stdout and program.stderr
        with FrozenClock() as clock:
            attached: Any = None
            for _ in range(tries(200)):
                assert program.stdout.read(1) == b"+", program.stderr.read()
                with subprocess.Popen(["kill", "-USR1", str(program.pid)]):
                    attached = attached.close() if attached else clock.attach(program.pid)
        assert program.stdout.read(1) == b"+", program.stderr.read()
        program.send_signal(signal.SIGTERM)
        assert program.stdout.read() == b"EXIT-SUCCESS\n", program.stderr.read()
        assert program.wait(CEILING_S) == 0


def test_an_ignored_signal_ends_no_wait(build: Builder) -> None:
    """Linux reports it to a tracer, by which some calls are ended: epoll_wait among them."""
    command = [build.c("helpers/attach_waits")]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stdout and program.stdout.readline() == "up\n"
        wait_until_asleep(program.pid)
        with FrozenClock("1970-01-01") as clock:
            clock.attach(program.pid)
            wait_until_asleep(program.pid)
            for tid in map(int, os.listdir(f"/proc/{program.pid}/task")):
                for number in (signal.SIGWINCH, signal.SIGCHLD):
                    # One after the other: a thread that is woken for one which another has taken
                    # meanwhile hears of none.
                    with suppress(ProcessLookupError):  # its time is up, on a slow machine
                        os.kill(tid, number)
                    wait_until_asleep(program.pid)
        output, errors = program.communicate("\n", timeout=CEILING_S)
    assert (output, errors, program.returncode) == ("EXIT-SUCCESS\n", "", 0)
