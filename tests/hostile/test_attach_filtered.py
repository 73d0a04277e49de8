"""Attaching to programs under seccomp filters of their own, as all are in most containers.

The tracer suspends a filter for its own calls inside the program alone, and only where it may.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock, UnsupportedProgram

CEILING_S = 30
REFUSE_CALLS = Path(__file__).parents[1] / "plugin" / "refuse_calls.py"

#: A line has it tell the time, "move" make a call that it dies of, and that the takeover makes too.
KILLED = """
import ctypes, mmap, struct, sys, time
from pytest_vdsotime.abi import syscalls
import os
number = syscalls(os.uname().machine)["mremap"]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x80000000), (6, 0, 0, 0x7FFF0000)]
kept = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
header = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(kept))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header, 0, 0) == 0
print("up", flush=True)
for line in sys.stdin:
    if line == "move\\n":
        libc.syscall(number, 0, 0, 0, 0)
    print(int(time.time()), flush=True)
"""


@contextmanager
def filtered(*before: str) -> Iterator[Any]:
    """One that runs already."""
    with subprocess.Popen(
        [*before, sys.executable, "-c", KILLED], stdin=-1, stdout=-1, text=True
    ) as program:
        assert program.stdout and program.stdout.readline() == "up\n"
        try:
            yield program
        finally:
            program.kill()


def tell(program: Any) -> int:
    program.stdin.write("\n")
    program.stdin.flush()
    return int(program.stdout.readline())


def dies_by_its_filter(program: Any) -> bool:
    program.stdin.write("move\n")
    program.stdin.flush()
    return bool(program.stdout.readline() == "")


def test_it_comes_and_goes(as_root: None) -> None:
    with filtered() as program:
        with FrozenClock(1000) as clock:
            attached = clock.attach(program.pid)
            assert tell(program) == 1000
            clock.advance(hours=1)
            assert tell(program) == 4600
            attached.close()
            assert abs(tell(program) - time.time()) < CEILING_S
            clock.attach(program.pid)
            assert tell(program) == 4600
        assert abs(tell(program) - time.time()) < CEILING_S


@pytest.mark.parametrize("when", ["before", "attached", "after"])
def test_its_filter_is_in_force(as_root: None, when: str) -> None:
    """Before, while it is attached, and afterwards."""
    with filtered() as program, FrozenClock(1000) as clock:
        if when != "before":
            attached = clock.attach(program.pid)
            assert tell(program) == 1000
            if when == "after":
                attached.close()
                assert abs(tell(program) - time.time()) < CEILING_S
        assert dies_by_its_filter(program)
        if when != "attached":
            assert program.wait(CEILING_S) == -signal.SIGSYS


TRACED = """
import ctypes, errno, os, struct, sys, time
from pytest_vdsotime.abi import syscalls
numbers = syscalls(os.uname().machine)
traced = [numbers["getppid"], numbers["sethostname"]]
code = [(0x20, 0, 0, 0)]
for number in traced:
    code += [(0x15, 0, 1, number), (6, 0, 0, 0x7FF00000)]
code.append((6, 0, 0, 0x7FFF0000))
kept = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
header = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(kept))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header, 0, 0) == 0
print("up", flush=True)
for line in sys.stdin:
    errors = []
    for number in traced:
        assert libc.syscall(number, 0, 0) == -1
        errors.append(errno.errorcode[ctypes.get_errno()])
    print(*errors, int(time.time()), flush=True)
"""


def test_what_it_wants_traced(as_root: None) -> None:
    """By a tracer of its own, which it has not: those calls do not exist (seccomp(2))."""
    with (
        subprocess.Popen([sys.executable, "-c", TRACED], stdin=-1, stdout=-1, text=True) as program,
        FrozenClock(1000) as clock,
    ):
        assert program.stdin and program.stdout and program.stdout.readline() == "up\n"
        attached = clock.attach(program.pid)
        program.stdin.write("\n")
        program.stdin.flush()
        *errors, now = program.stdout.readline().split()
        assert (errors, now) == (["ENOSYS", "ENOSYS"], "1000")
        attached.close()
        program.stdin.close()
        assert program.wait(CEILING_S) == 0


REFUSED = """
import sys
from pytest_vdsotime import FrozenClock, UnsupportedProgram
with FrozenClock(1000) as clock:
    try:
        clock.attach(int(sys.argv[1]))
    except UnsupportedProgram as error:
        print(error)
"""


def test_a_test_process_under_a_filter_too(as_root: None) -> None:
    with filtered() as program:
        sandbox = [sys.executable, str(REFUSE_CALLS), "io_uring_setup"]
        done = subprocess.run(
            [*sandbox, sys.executable, "-c", REFUSED, str(program.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"attaching to {os.path.realpath(sys.executable)} (pid {program.pid})" in done.stdout
        assert "the test process is under one itself" in done.stdout
        assert abs(tell(program) - time.time()) < CEILING_S


def test_without_the_right_to_suspend_it(as_root: None) -> None:
    """As an ordinary user has none: the tracer may attach, but the filter decides."""
    drop = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    with filtered() as program:
        done = subprocess.run(
            [*drop, sys.executable, "-c", REFUSED, str(program.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "that takes CAP_SYS_ADMIN; run the tests as root" in done.stdout
        assert abs(tell(program) - time.time()) < CEILING_S


def test_as_whoever_runs_the_tests() -> None:
    """The one or the other, never half of it."""
    with filtered() as program, FrozenClock(1000) as clock:
        try:
            clock.attach(program.pid)
        except UnsupportedProgram as error:
            assert os.geteuid() and "CAP_SYS_ADMIN" in str(error)
            assert abs(tell(program) - time.time()) < CEILING_S
        else:
            assert tell(program) == 1000
