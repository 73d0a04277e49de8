"""A test process at its limit of open files (RLIMIT_NOFILE): what a program reads is its clock, or
the test is told."""

from __future__ import annotations

import itertools
import os
import resource
import sys
from collections.abc import Iterator
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock, RealTimeWarning, VdsoTimeError

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30
HOUR_NS = 3600 * 10**9
ROOM = 30  # less than the children of programs/many_copies.c
MANY_TIMERS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
hour = (ctypes.c_long * 4)(0, 0, 3600, 0)
for _ in range(40):
    assert libc.timerfd_settime(libc.timerfd_create(1, 0), 0, hour, None) == 0
"""


@pytest.fixture
def few_files() -> Iterator[None]:
    """This process may open a few files more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(fd) for fd in os.listdir("/proc/self/fd")}
    free = (fd for fd in itertools.count() if fd not in taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, ROOM, None)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_copies_than_files(build: Builder, few_files: None) -> None:
    """The copies of the page that the tracer keeps up to date take a descriptor each."""
    command = [build.c("many_copies"), "0", str(HOUR_NS)]
    said = []
    try:
        with FrozenClock(0) as clock:
            program = clock.popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
            assert program.stdout
            said.append(program.stdout.readline())
            clock.advance(hours=1)
            output, errors = program.communicate("\n", timeout=CEILING_S)
            said.append(errors + output)
    except VdsoTimeError as error:
        assert "Too many open files" in str(error)
    else:
        assert said == ["MOVE\n", "EXIT-SUCCESS\n"]


def test_more_timers_than_files(few_files: None) -> None:
    """The timerfds that the tracer has expire take a descriptor each."""
    with FrozenClock(0) as clock:
        program = clock.popen([sys.executable, "-c", MANY_TIMERS])
        with pytest.warns(RealTimeWarning, match=r"a timerfd of .* open files; raise .*ulimit -n"):
            assert program.wait(CEILING_S) == 0
