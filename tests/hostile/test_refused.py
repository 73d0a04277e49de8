"""Where tracing cannot work there is an error with the reason and the remedy, at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pytest_vdsotime

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 60

TRY = """
import time
import pytest_vdsotime.popen  # which the first program would
from pytest_vdsotime import FrozenClock, TracingUnavailable
clock = FrozenClock()
before = time.monotonic()
try:
    clock.run(["date"])
except TracingUnavailable as error:
    print(time.monotonic() - before < 1, error.reason, error.remedy, sep="|")
    assert error.reason in str(error) and error.remedy in str(error)
else:
    print("it worked")
clock.close()
"""


def refusal(*sandbox: str) -> tuple[str, str]:
    """(reason, remedy) that a script in the sandbox got within a second."""
    package = str(Path(pytest_vdsotime.__file__).parent.parent)
    path = os.pathsep.join([package, *sys.path])
    done = subprocess.run(
        [*sandbox, sys.executable, "-W", "error", "-c", TRY],
        env={**os.environ, "PYTHONPATH": path},
        timeout=CEILING_S,
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    at_once, reason, remedy = done.stdout.strip().split("|")
    assert at_once == "True"
    return reason, remedy


def test_traced_already(real_program: Callable[[str], str], tmp_path: Path) -> None:
    reason, remedy = refusal(real_program("strace"), "-f", "-qq", "-o", str(tmp_path / "log"))
    assert "strace" in reason
    assert "strace" in remedy or "without" in remedy


def test_refused_by_a_sandbox(build: Builder) -> None:
    reason, remedy = refusal(build.c("helpers/refuse"), "ptrace")
    assert "ptrace" in reason.lower() or "PTRACE" in reason
    assert "SYS_PTRACE" in remedy or "seccomp" in remedy


TIMER = """
import os, ctypes, struct
libc = ctypes.CDLL(None)
fd = libc.timerfd_create(1, 0)
libc.timerfd_settime(fd, 0, struct.pack("=qqqq", 0, 0, 0, 20_000_000), None)
os.read(fd, 8)
"""
SOCKET = """
import socket, struct
one, other = socket.socketpair()
one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("=qq", 0, 20_000))
try:
    one.recv(1)
except BlockingIOError:
    pass
"""
IN_REAL_TIME = """
import sys, warnings
from pytest_vdsotime import FrozenClock, RealTimeWarning
with FrozenClock(monotonic="freeze") as clock:
    program = clock.popen([sys.executable, "-c", sys.argv[1]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert program.wait() == 0
        clock.settle()
assert [one.category for one in caught] == [RealTimeWarning]
print(caught[0].message)
"""


@pytest.mark.parametrize(
    ("program", "call", "remedy"),
    [
        (TIMER, "pidfd_getfd", "allow pidfd_getfd"),
        (TIMER, "TFD_IOC_SET_TICKS", "a kernel with CONFIG_CHECKPOINT_RESTORE"),
        (SOCKET, "pidfd_getfd", "allow pidfd_getfd"),
    ],
    ids=["timerfd", "timerfd-ticks", "socket"],
)
def test_what_the_tracer_cannot_reach(build: Builder, program: str, call: str, remedy: str) -> None:
    """It takes real time, under a warning, and the tracer goes on."""
    python = [sys.executable, "-W", "error", "-c"]
    done = subprocess.run(
        [build.c("helpers/refuse"), call, *python, IN_REAL_TIME, program],
        timeout=CEILING_S,
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert " in real time: " in done.stdout
    assert call in done.stdout
    assert remedy in done.stdout


def test_the_script_works_elsewhere() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        refusal()


EXPIRES = """
import subprocess, sys
from pytest_vdsotime import FrozenClock
child = "import os, sys; os.read(int(sys.argv[1]), 8)"
program = (
    "import ctypes, os, struct, subprocess, sys; libc = ctypes.CDLL(None);"
    "timers = [libc.timerfd_create(1, 0) for _ in range(3)];"
    "hours = [struct.pack('=qqqq', 0, 0, 3600 * one, 0) for one in (1, 2, 3)];"
    "[libc.timerfd_settime(*one, None) for one in zip(timers, [0] * 3, hours)];"
    "os.close(timers[0]); os.read(timers[1], 8);"
    f"subprocess.Popen([sys.executable, '-c', {child!r}, str(timers[2])], pass_fds=timers[2:])"
)
with FrozenClock(monotonic="freeze") as clock:
    timer = clock.popen([sys.executable, "-c", program])
    clock.advance(7200)
    assert timer.wait(10) == 0
    assert len(clock.processes) == 1
    clock.advance(3600)
    assert clock.processes == []
"""


@pytest.mark.parametrize("without", ["kcmp", "kcmp F_DUPFD_QUERY"])
def test_timers_are_followed_without_kcmp(build: Builder, without: str) -> None:
    """As in containers by default, on newer kernels and on older ones."""
    refuse = build.c("helpers/refuse")
    sandbox = [word for call in without.split() for word in (refuse, call)]
    subprocess.run(
        [*sandbox, sys.executable, "-W", "error", "-c", EXPIRES], timeout=CEILING_S, check=True
    )
