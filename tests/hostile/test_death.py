"""No program outlives its clock: not when the clock is closed, not when its process is killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import pytest

import pytest_vdsotime
from pytest_vdsotime import FrozenClock, RealTimeWarning, VdsoTimeError, faults
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30
PACKAGE = str(Path(pytest_vdsotime.__file__).parent.parent)

# Programs that do not end by themselves, nor at a SIGTERM or SIGHUP, nor with their parent.
IMMORTAL = [
    "exec sleep 1000",
    "trap '' TERM HUP INT; while :; do read line || :; done",
    "setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 & exec sleep 1000' & wait",
    "(sleep 1000 &); exec sleep 1000",
    "kill -STOP $$; exec sleep 1000",
    "while :; do /bin/true; done",
    "sleep 1000 | sleep 1000 | sleep 1000",
]

HOLDER = f"""
import os, sys, time
from pytest_vdsotime import FrozenClock, VdsoTimeError
clock = FrozenClock()
programs = [clock.popen(["/bin/sh", "-c", script]) for script in {IMMORTAL!r}]
while len(clock.processes) < 15:
    time.sleep(0.01)
print(*[process.pid for process in clock.processes], flush=True)
sys.stdin.read()
"""


@contextmanager
def watch(pids: list[int]) -> Iterator[list[int]]:
    """pidfds: they tell of an end without being the parent, and never of another process."""
    pidfds = []
    try:
        for pid in pids:
            try:
                pidfds.append(os.pidfd_open(pid))
            except ProcessLookupError:  # of those that come and go
                continue
        yield pidfds
    finally:
        for fd in pidfds:
            os.close(fd)


def ended_within(pidfds: list[int], seconds: float) -> bool:
    return all(select.select([fd], [], [], seconds)[0] for fd in pidfds)


def start_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([PACKAGE, *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=PIPE,
        stdout=PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_the_holder_is_killed(number: signal.Signals) -> None:
    with start_python(HOLDER) as holder:
        assert holder.stdout
        pids = [int(word) for word in holder.stdout.readline().split()]
        with watch(pids) as pidfds:
            assert len(pidfds) >= 12
            assert not ended_within(pidfds, 0)
            holder.send_signal(number)
            assert holder.wait(CEILING_S) == -number
            assert ended_within(pidfds, 5)


STARTER = """
import sys
from pytest_vdsotime import FrozenClock, VdsoTimeError
clock = FrozenClock()
print("go", flush=True)
while True:
    clock.popen(["sleep", sys.argv[1]])
"""


def test_the_holder_is_killed_while_it_starts_programs() -> None:
    """At any moment: between fork, seizure and exec."""
    mark = f"86400.{os.getpid()}"
    for i in range(12):
        with start_python(STARTER, mark) as starter:
            assert starter.stdout
            starter.stdout.readline()
            select.select([], [], [], 0.02 + 0.0013 * i)
            starter.kill()
    pids = map(int, filter(str.isdigit, os.listdir("/proc")))
    left = [pid for pid in pids if mark in command(pid)]
    with watch(left) as pidfds:
        assert ended_within(pidfds, 5)


FORKER = """
import os, sys, time
from pytest_vdsotime import FrozenClock
with FrozenClock() as clock, clock.patch_subprocess():
    pid = os.fork()
    if pid == 0:
        os.write(1, b"%d\\n" % os.getpid())
        while os.read(0, 1) != b"!":
            pass
        os.execvp("sleep", ["sleep", "60"])
    time.sleep(1000)
"""


@pytest.mark.parametrize("is_reaped", [True, False])
def test_the_holder_is_killed_before_its_child_executes_a_program(is_reaped: bool) -> None:
    """It would be in real time for good, so it ends."""
    with start_python(FORKER) as holder:
        assert holder.stdin and holder.stdout
        with watch([int(holder.stdout.readline())]) as pidfds:
            holder.kill()
            if is_reaped:
                holder.wait()
            holder.stdin.write("!")
            holder.stdin.close()
            assert ended_within(pidfds, 5)


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def read_line(program: subprocess.Popen[bytes]) -> None:
    """Waits until it says that it runs."""
    assert program.stdout
    with program.stdout:
        program.stdout.readline()


@pytest.mark.parametrize("script", IMMORTAL)
def test_closing_ends_all(script: str) -> None:
    with ExitStack() as watching:
        with FrozenClock() as clock:
            program = clock.popen(["/bin/sh", "-c", f"echo; {script}"], stdin=DEVNULL, stdout=PIPE)
            read_line(program)
            pids = [process.pid for process in clock.processes]
            assert program.pid in pids
            pidfds = watching.enter_context(watch(pids))
        assert program.returncode == -signal.SIGKILL
        assert ended_within(pidfds, 0)


def test_closing_during_a_storm() -> None:
    """Of processes that are born while it closes."""
    for _ in range(5):
        with FrozenClock() as clock:
            storm = clock.popen(["/bin/sh", "-c", "echo; while :; do (:)& done"], stdout=PIPE)
            read_line(storm)
        assert storm.returncode == -signal.SIGKILL


def test_closing_closes_the_pipes_of_what_it_kills() -> None:
    """Nobody else is left to do it: a test that starts a server with pipes need not end it."""
    with FrozenClock() as clock:
        program = clock.popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert program.stdin and program.stdout and program.stderr
    assert program.stdin.closed and program.stdout.closed and program.stderr.closed


def test_a_program_killed_from_outside() -> None:
    with FrozenClock() as clock:
        program = clock.popen(["/bin/sh", "-c", "sleep 1000 & wait"])
        os.kill(program.pid, signal.SIGKILL)
        assert program.wait(CEILING_S) == -signal.SIGKILL
        assert clock.run(["true"]).returncode == 0


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="32-bit programs are of x86")
def test_the_first_program_of_its_kind_is_killed_at_its_exec(build: Builder) -> None:
    """It has no vDSO any more, which the kernel gives such programs all the same."""
    command = [build.c("helpers/storm", "i386")]
    with closing(Tracer()) as tracer, clock_on(tracer, 0) as clock:
        with faults.injected("vdso", lambda pid: os.kill(pid, signal.SIGKILL)):
            assert clock.run(command).returncode == -signal.SIGKILL
        assert clock.run(["true"]).returncode == 0


THREADS = """
import threading, time
for _ in range(20):
    threading.Thread(target=time.sleep, args=(1000,)).start()
print("up", flush=True)
"""


def test_a_tracer_that_fails_ends_its_programs_and_says_so() -> None:
    """Every call fails at once with the first failure, and nothing is left, threads and all."""
    clock = FrozenClock()
    program = clock.popen([sys.executable, "-c", THREADS], stdout=PIPE)
    assert program.stdout
    assert program.stdout.readline() == b"up\n"

    def fail(_tid: int) -> None:
        raise SystemExit("on purpose")  # which no handler of one program's failures takes

    with (
        faults.injected("entry EXEC", fail),
        faults.injected("stop EXEC", fail),
        pytest.raises(VdsoTimeError, match="the tracer failed"),
    ):
        clock.run(["true"])
    calls: list[Callable[[], object]] = [lambda: clock.run(["true"]), program.wait, clock.close]
    for call in calls:
        with pytest.raises(VdsoTimeError, match="the tracer failed"):
            call()
    assert not Path(f"/proc/{program.pid}").exists()
    program.stdout.close()
    program.returncode = -9  # nobody can tell any more


REAPS_NOBODY = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans are its children
sys.exit(subprocess.call([sys.executable, "-c", sys.argv[1]]))
"""
FAILS = """
import signal, threading, time
from pytest_vdsotime import FrozenClock, VdsoTimeError, faults
from pytest_vdsotime.future import Future
def fail(_tid):
    raise SystemExit("on purpose")
signal.alarm(30)
def wake():
    while True:
        tracer.post(lambda loop: None, Future())
        time.sleep(0.0005)
clock = FrozenClock()
tracer, _ = clock.session.start_tracing()
for _ in range(20):
    clock.popen(["sh", "-c", "sleep 1000 & while :; do /bin/true; done"])
threading.Thread(target=wake, daemon=True).start()
with faults.injected("loop", fail):
    try:
        clock.run(["true"])
        clock.close()
    except VdsoTimeError as error:
        print(error)
"""


def test_a_tracer_that_fails_waits_for_no_other_parent() -> None:
    """Of programs that have lost theirs and are its children now, that it never reaps."""
    with start_python(REAPS_NOBODY, FAILS) as outer:
        said, _ = outer.communicate(timeout=CEILING_S)
    assert "the tracer failed" in said and outer.returncode == 0


# It asks for a leap second, of which the clock warns.
LEAP = """
import ctypes
timex = (ctypes.c_int * 256)()
timex[0], timex[10] = 0x10, 0x10  # modes = ADJ_STATUS, status = STA_INS (adjtimex(2))
ctypes.CDLL(None).adjtimex(timex)
print("ready", flush=True)
input()
"""


def test_a_warning_that_is_an_error_leaves_no_program(as_root: None) -> None:
    """That of one program is raised by the close, when all of them have ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clock = FrozenClock()
        programs = [clock.popen(["cat"], stdin=PIPE, stdout=PIPE) for _ in range(3)]
        leap = clock.popen([sys.executable, "-c", LEAP], stdin=PIPE, stdout=PIPE)
        assert leap.stdout and leap.stdout.readline() == b"ready\n"
        with pytest.raises(RealTimeWarning, match="leap second"):
            clock.close()
    assert [one.returncode for one in (*programs, leap)] == [-signal.SIGKILL] * 4
    assert all(one.stdout and one.stdout.closed for one in (*programs, leap))


SERVER = """
import sys, time
from pytest_vdsotime import FrozenClock
with FrozenClock() as clock, clock.serve() as server:
    print(server.address, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_no_socket_is_left_of_a_holder_that_is_killed(number: signal.Signals) -> None:
    with start_python(SERVER) as holder:
        assert holder.stdout
        path = Path(holder.stdout.readline().strip().removeprefix("unix:"))
        assert path.is_socket()
        holder.send_signal(number)
    deadline_s = time.monotonic() + 5
    while path.parent.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
