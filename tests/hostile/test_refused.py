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


# What test suites do with a clock: programs of several threads and processes, every kind of wait.
SUITE = """
import subprocess, sys, time
from pytest_vdsotime import FrozenClock
program = '''
import ctypes, os, select, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None)
def expire():
    timer = libc.timerfd_create(1, 0)
    libc.timerfd_settime(timer, 0, struct.pack("4q", 0, 0, 600, 0), None)
    os.read(timer, 8)
def receive():
    one, other = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("2q", 600, 0))
    try:
        one.recv(1)
    except BlockingIOError:
        pass
waits = {
    "sleep": lambda: time.sleep(600),
    "poll": lambda: select.poll().poll(600_000),
    "select": lambda: select.select([], [], [], 600),
    "futex": lambda: threading.Event().wait(600),
    "timerfd": expire,
    "socket": receive,
    "child": lambda: subprocess.run(["sleep", "600"]),
}
begun = time.monotonic()
def run(name):
    waits[name]()
    print(name, time.monotonic() - begun, flush=True)
for name in sys.argv[1:]:
    threading.Thread(target=run, args=(name,)).start()
print("begun", flush=True)
'''
START = 946684800
with FrozenClock("@%d" % START) as clock:
    assert clock.check_output(["date", "+%s"], text=True) == f"{START}\\n"
    command = [sys.executable, "-c", program, *sys.argv[1:]]
    started = [clock.popen(command, stdout=subprocess.PIPE, text=True, close_fds=closes)
               for closes in (True, False)]
    for one in started:
        assert one.stdout.readline() == "begun\\n"
    clock.advance(599)
    assert [one.poll() for one in started] == [None, None]
    clock.advance(2)
    for one in started:
        told = dict(line.split() for line in one.stdout)
        assert told.keys() == set(sys.argv[1:]), told
        assert all(600 <= float(elapsed) < 601 for elapsed in told.values()), told
        assert one.wait() == 0
    clock.move_to("2038-01-19")
    assert clock.check_output(["date", "-u", "+%F"], text=True) == "2038-01-19\\n"
"""
WAITS = ("sleep", "poll", "select", "futex", "timerfd", "socket", "child")
LINUX_5_3 = (
    "Linux 5.4: CLONE_CLEAR_SIGHAND, Linux 5.5: pidfd_getfd, Linux 5.8: close_range, "
    "Linux 5.15: futex_waitv, Linux 6.2: MFD_EXEC, F_DUPFD_QUERY"
)
NO_COPIES = ("sleep", "poll", "select", "futex", "child")


@pytest.mark.parametrize(
    ("missing", "waits"),
    [
        ("Linux 5.2: pidfd_open", NO_COPIES),
        ("Linux 5.2: clone3", WAITS),
        ("Linux 5.4: CLONE_CLEAR_SIGHAND", WAITS),
        ("Linux 5.5: pidfd_getfd", NO_COPIES),
        ("Linux 5.8: close_range", WAITS),
        ("Linux 5.15: futex_waitv", WAITS),
        ("Linux 6.2: MFD_EXEC", WAITS),
        ("without KCMP: kcmp", WAITS),
        ("without CROSS_MEMORY_ATTACH: process_vm_readv", WAITS),
        ("without CROSS_MEMORY_ATTACH: process_vm_writev", WAITS),
        (LINUX_5_3, NO_COPIES),
        ("TFD_IOC_SET_TICKS", tuple(one for one in WAITS if one != "timerfd")),
    ],
)
def test_an_older_kernel(build: Builder, missing: str, waits: tuple[str, ...]) -> None:
    """All that it can do works, without a word."""
    refuse = build.c("helpers/refuse")
    sandbox = [word for call in missing.split(", ") for word in (refuse, call)]
    command = [*sandbox, sys.executable, "-W", "error", "-c", SUITE, *waits]
    subprocess.run(command, timeout=CEILING_S, check=True)


def test_a_kernel_that_does_not_tell_the_system_call(build: Builder) -> None:
    """That is found out before the first program starts."""
    reason, remedy = refusal(build.c("helpers/refuse"), "Linux 5.2: PTRACE_GET_SYSCALL_INFO")
    assert "PTRACE_GET_SYSCALL_INFO" in reason and "too old" in reason
    assert "Linux 5.3" in remedy


@pytest.mark.parametrize(
    ("missing", "stderr"),
    [
        ("Linux 5.2: pidfd_open", "vdsotime: [Errno 38] pidfd_open: Function not implemented\n"),
        ("Linux 5.2: clone3", ""),
        ("Linux 5.5: pidfd_getfd", ""),
        ("Linux 5.8: close_range", ""),
        ("Linux 6.2: MFD_EXEC", ""),
        ("without CROSS_MEMORY_ATTACH: process_vm_writev", ""),
    ],
)
def test_the_command_on_an_older_kernel(build: Builder, missing: str, stderr: str) -> None:
    command = "sleep 1000; date -u +%T; exit 3"
    done = subprocess.run(
        [
            build.c("helpers/refuse"),
            missing,
            "vdsotime",
            "--at=@0",
            "--autojump",
            "sh",
            "-c",
            command,
        ],
        timeout=CEILING_S,
        capture_output=True,
        text=True,
    )
    works = "00:16:40\n", "", 3
    assert (done.stdout, done.stderr, done.returncode) == (("", stderr, 125) if stderr else works)
