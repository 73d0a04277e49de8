"""Attaching to processes that change, end, or cannot be attached to, and letting them go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

import pytest_vdsotime
from pytest_vdsotime import ClockClosed, FrozenClock, TracingUnavailable, UnsupportedProgram
from pytest_vdsotime.kernel import procfs, ptrace

if TYPE_CHECKING:
    from conftest import Builder, MoveLines

CEILING_S = 60
PACKAGE = str(Path(pytest_vdsotime.__file__).parent.parent)
Find = Callable[[str], str]
Tries = Callable[[int], int]


@contextmanager
def started(*command: str, status: int | None = 0, **keywords: Any) -> Iterator[Any]:
    """It says "up" and ends at the end of its input."""
    keywords = {"stdin": PIPE, "stdout": PIPE, "text": True, **keywords}
    with subprocess.Popen(command, **keywords) as program:
        try:
            assert program.stdout and program.stdout.readline() == "up\n"
            yield program
            program.communicate(timeout=CEILING_S)
            assert status is None or program.returncode == status
        finally:
            program.kill()


def tell(program: Any, line: str) -> str:
    program.stdin.write(f"{line}\n")
    program.stdin.flush()
    return str(program.stdout.readline())


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + CEILING_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def status(pid: int, field: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return text.partition(f"{field}:")[2].splitlines()[0].strip()


def maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


# An emulated machine takes seconds to stop many busy threads.
MANY = 20 if os.uname().machine == "x86_64" else 8


@pytest.mark.parametrize(("target", "threads"), [("static", MANY), ("dynamic", 4), ("i386", 10)])
def test_threads_inside_the_vdso(target: str, threads: int, build: Builder) -> None:
    """At the moment of attach and release."""
    with started(build.c("helpers/attach_reads", target), str(threads)) as program:
        assert tell(program, "r") == "ok\n"
        before = maps(program.pid)
        with FrozenClock(1000) as clock:
            for _ in range(min(10, 80 // threads)):
                assert tell(program, "a") == "ok\n"
                attached = clock.attach(program.pid)
                assert tell(program, "w 1000") == "ok\n"
                assert tell(program, "a") == "ok\n"
                attached.close()
                assert tell(program, "r") == "ok\n"
        assert maps(program.pid) == before


@pytest.mark.parametrize("target", ["static", "i386"])
def test_a_frame_that_is_left_behind(target: str, build: Builder) -> None:
    """Of a signal handler that has returned, on another stack: nothing is kept for it."""
    with started(build.c("helpers/attach_frame", target)) as program:

        def vdso() -> list[str]:
            lines = Path(f"/proc/{program.pid}/maps").read_text().splitlines()
            return [line for line in lines if line.endswith("[vdso]")]

        before = vdso()
        with FrozenClock(1000) as clock:
            clock.attach(program.pid)
            assert vdso() != before
        assert vdso() == before


@pytest.mark.parametrize("target", ["static", "dynamic", "i386"])
def test_the_images_are_whole(target: str, build: Builder) -> None:
    """As the program finds them before, while it is attached and after its release."""
    with started(build.c("vdso_image", target), "0", "0", "later") as program:
        assert tell(program, "look") == "ok\n"
        with FrozenClock(1000) as clock:
            clock.attach(program.pid)
            assert tell(program, "look") == "ok\n"
        assert tell(program, "look") == "ok\n"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="32-bit calls are of x86")
def test_waits_by_32_bit_calls(build: Builder) -> None:
    """Of a 64-bit program, which need a page below 4 GiB: it is gone afterwards."""
    hour_ns = str(3600 * 10**9)
    with started(build.c("int80_waits"), hour_ns, "0", "asked") as program:
        before = maps(program.pid)
        with FrozenClock(1000, monotonic="rate", rate=3_600_000) as clock:
            clock.attach(program.pid)
            assert tell(program, "1") == "ok\n"
            assert tell(program, "2") == "ok\n"
            assert len(maps(program.pid)) > len(before)
        assert maps(program.pid) == before


def test_again_and_again(build: Builder, tries: Tries) -> None:
    """Nothing is left over, here or there."""
    with started(build.c("helpers/attach_reads"), "2") as program:
        before = maps(program.pid)
        with FrozenClock(1000) as clock:
            clock.attach(program.pid).close()
            descriptors = set(os.listdir("/proc/self/fd"))
            for _ in range(tries(200)):
                clock.attach(program.pid).close()
            assert set(os.listdir("/proc/self/fd")) == descriptors
        assert maps(program.pid) == before
        assert tell(program, "r") == "ok\n"


@pytest.mark.parametrize("target", ["static", "i386"])
def test_a_storm_of_threads_and_signals(target: str, build: Builder, move_lines: MoveLines) -> None:
    with started(build.c("helpers/attach_storm", target)) as program, FrozenClock(1000) as clock:
        for _ in range(40):
            attached = clock.attach(program.pid)
            move_lines(clock, 10**9)
            attached.close()
        output, _ = program.communicate(timeout=CEILING_S)
        assert output == "EXIT-SUCCESS\n"


@pytest.mark.filterwarnings("ignore:.*has started before:pytest_vdsotime.RealTimeWarning")
def test_a_storm_of_children(real_program: Find) -> None:
    script = "echo up; while :; do (:) | date +%s >/dev/null; done"
    with subprocess.Popen(["bash", "-c", script], stdout=PIPE, text=True) as program:
        assert program.stdout and program.stdout.readline() == "up\n"
        with FrozenClock(0) as clock:
            for _ in range(30):
                attached = clock.attach(program.pid)
                attached.close()
            assert program.poll() is None
            clock.attach(program.pid)
        assert program.poll() is None
        program.kill()


SPAWNS = """
import subprocess, sys, threading
def spawn():
    while True:
        subprocess.run(["/bin/true"], check=True)
for _ in range(2):
    threading.Thread(target=spawn, daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""


@pytest.mark.filterwarnings("ignore:.*has started before:pytest_vdsotime.RealTimeWarning")
def test_a_storm_of_vforks() -> None:
    """A thread in vfork(2) goes on only once its child has executed."""
    with started(sys.executable, "-c", SPAWNS) as program, FrozenClock(0) as clock:
        for _ in range(30):
            clock.attach(program.pid).close()
        assert clock.processes == []


@pytest.mark.parametrize("target", ["static", "dynamic", "i386"])
def test_children(target: str, build: Builder) -> None:
    with started(build.c("helpers/attach_family", target)) as program, FrozenClock(1000) as clock:

        def answers() -> dict[str, int]:
            lines = [tell(program, "")]
            while lines[-1] != "end\n":
                lines.append(program.stdout.readline())
            return {who: int(now) for who, now in map(str.split, lines[:-1])}

        names = {"itself", "forked", "executed", "grandchild"}
        attached = clock.attach(program.pid)
        assert answers() == dict.fromkeys(names, 1000)
        attached.close()
        assert clock.processes == []
        now = answers()
        assert now.keys() == names
        assert all(abs(one - time.time()) < 60 for one in now.values())


@pytest.mark.parametrize("close", ["process", "clock"])
@pytest.mark.parametrize("kind", ["fork", "serve"])
@pytest.mark.parametrize("target", ["static", "i386"])
def test_children_that_outlive_the_release(
    target: str, kind: str, close: str, build: Builder
) -> None:
    with started(build.c("helpers/attach_family", target)) as program:
        with FrozenClock(1000) as clock:
            attached = clock.attach(program.pid)
            who, now = tell(program, f"{kind}\n").split()
            assert (who, now) == ("forked" if kind == "fork" else "executed", "1000")
            assert len(clock.processes) == 2
            if close == "process":
                attached.close()
                assert clock.processes == []
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text()
        for pid in (program.pid, *map(int, children.split())):
            assert status(pid, "TracerPid") == "0"
        assert abs(int(tell(program, "").split()[1]) - time.time()) < 60


def test_raw_calls_and_setting_the_clock(as_root: None) -> None:
    """As in a program that the clock has started."""
    code = """
import os, sys, time
print("up", flush=True)
for line in sys.stdin:
    if line.strip():
        time.clock_settime(time.CLOCK_REALTIME, int(line))
    print(int(time.time()), int(os.times().elapsed) - int(time.monotonic()),
          time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() < 10**6, flush=True)
"""
    with started(sys.executable, "-c", code) as program, FrozenClock(1000) as clock:
        host_s = time.time()
        away = tell(program, "").split()[1]
        clock.attach(program.pid)
        clock.advance(hours=1)
        now, way, _ = tell(program, "").split()
        assert now == "4600" and abs(int(way) - int(away)) <= 1
        assert tell(program, "5000").split()[0] == "5000"
        assert clock.time() == 5000
        assert time.time() - host_s < CEILING_S


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["end", "kill", "exec"])
def test_it_ends_or_executes_while_attached(how: str, build: Builder) -> None:
    code = "echo up; read line; [ $line = exec ] && exec sh -c 'date +%s; read line; date +%s'"
    with started("sh", "-c", code, status=None) as program:
        with FrozenClock(1000) as clock:
            attached = clock.attach(program.pid)
            if how == "exec":
                assert tell(program, "exec") == "1000\n"
            elif how == "kill":
                os.kill(program.pid, signal.SIGKILL)
            else:
                program.stdin.write("end\n")
                program.stdin.flush()
            if how != "exec":
                wait_for(lambda: clock.processes == [])
            attached.close()
            attached.close()
        attached.close()
        if how == "exec":
            assert abs(int(tell(program, "")) - time.time()) < 60


@pytest.mark.parametrize("target", ["static", "i386"])
def test_other_threads_than_the_first_execute(target: str, build: Builder, tries: Tries) -> None:
    """While it is attached to: the first thread ends each time, and another has its place."""
    path = build.c("helpers/exec_by_threads", target)
    random = Random(1)
    with FrozenClock(1000) as clock:
        for _ in range(tries(40)):
            with subprocess.Popen([path, "40"], stdin=PIPE, stdout=PIPE, text=True) as program:
                time.sleep(random.random() / 100)
                attached = clock.attach(program.pid)
                assert tell(program, "") == "1000\n"
                attached.close()
                assert abs(int(tell(program, "")) - time.time()) < CEILING_S
                program.communicate(timeout=CEILING_S)
            assert program.returncode == 0


def test_killed_at_any_moment(build: Builder) -> None:
    """Of attaching and of releasing."""
    path = build.c("helpers/attach_reads")
    for i in range(20):
        with started(path, "8", status=None) as program, FrozenClock(1000) as clock:
            killer = threading.Timer(0.002 * i, os.kill, [program.pid, signal.SIGKILL])
            killer.start()
            with suppress(ProcessLookupError):
                clock.attach(program.pid).close()
            killer.join()


HOLDER = """
import sys
from pytest_vdsotime import FrozenClock
clock = FrozenClock(1000)
clock.attach(int(sys.argv[1]))
print("up", flush=True)
sys.stdin.read()
"""


def test_the_test_process_is_killed(build: Builder) -> None:
    """What is attached then dies with it (PTRACE_O_EXITKILL): it could not be put back."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([PACKAGE, *sys.path])}
    with started(build.c("helpers/attach_reads"), status=-signal.SIGKILL) as program:
        command = [sys.executable, "-c", HOLDER, str(program.pid)]
        with started(*command, status=-signal.SIGKILL, env=environment) as holder:
            holder.kill()
        assert program.wait(CEILING_S) == -signal.SIGKILL


def test_a_child_of_the_test_process(build: Builder) -> None:
    """May be waited for once it was let go."""
    with started(build.c("helpers/attach_family")) as program, FrozenClock(1000) as clock:
        attached = clock.attach(program.pid)
        assert tell(program, "").split() == ["itself", "1000"]
        attached.close()
        output, _ = program.communicate(timeout=CEILING_S)
        assert output.endswith("end\n") and program.returncode == 0


def test_it_is_stopped_while_attached(build: Builder) -> None:
    """Let go it is still stopped, and goes on in real time."""
    with started(build.c("helpers/attach_reads")) as program:
        with FrozenClock(1000) as clock:
            clock.attach(program.pid)
            os.kill(program.pid, signal.SIGSTOP)
            wait_for(lambda: status(program.pid, "State").startswith("t"))
        wait_for(lambda: status(program.pid, "State").startswith("T"))
        assert status(program.pid, "TracerPid") == "0"
        os.kill(program.pid, signal.SIGCONT)
        assert tell(program, "r") == "ok\n"


FILTER = """
import ctypes, struct, sys, time
print("up", flush=True)
sys.stdin.readline()
libc = ctypes.CDLL(None, use_errno=True)
kill_mremap = [(0x20, 0, 0, 0), (0x15, 0, 1, 25), (6, 0, 0, 0x80000000), (6, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("HBBI", *one) for one in kill_mremap)
kept = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxQ", len(kill_mremap), ctypes.addressof(kept))
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(22, 2, program, 0, 0) != 0:
    sys.exit(9)
print(int(time.time()), flush=True)
for line in sys.stdin:
    print(int(time.time()), flush=True)
"""


def test_it_installs_a_filter_while_attached() -> None:
    """One that kills who moves memory."""
    with started(sys.executable, "-c", FILTER) as program:
        with FrozenClock(1000) as clock:
            clock.attach(program.pid)
            assert tell(program, "") == "1000\n"
        assert status(program.pid, "TracerPid") == "0"
        assert abs(int(tell(program, "")) - time.time()) < 60


# --- refusals ------------------------------------------------------------------------------------


@contextmanager
def left_alone(program: Any) -> Iterator[None]:
    def look() -> tuple[object, ...]:
        is_stopped = status(program.pid, "State")[0] == "T"
        return maps(program.pid), status(program.pid, "TracerPid"), is_stopped

    before = look()
    yield
    wait_for(lambda: look() == before)  # one that was stopped stops again, as it is let go


@pytest.mark.parametrize(
    ("pid", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (os.getpid(), ValueError),
        ("x", TypeError),
        (1.0, TypeError),
        (True, TypeError),
        (None, TypeError),
        (2**22 + 1, ProcessLookupError),
        (2**70, ProcessLookupError),
    ],
    ids=["0", "-1", "own", "text", "float", "bool", "None", "beyond", "far-beyond"],
)
def test_what_is_no_other_process(pid: Any, error: type[Exception]) -> None:
    with FrozenClock() as clock, pytest.raises(error):
        clock.attach(pid)


def test_a_thread(build: Builder) -> None:
    with started(build.c("helpers/attach_reads")) as program, FrozenClock() as clock:
        tid = max(map(int, os.listdir(f"/proc/{program.pid}/task")))
        with pytest.raises(ValueError, match=f"{tid} is a thread of process {program.pid}"):
            clock.attach(tid)


def test_a_process_that_has_ended() -> None:
    """But was not waited for."""
    with FrozenClock() as clock, subprocess.Popen(["true"]) as program:
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            clock.attach(program.pid)


def test_a_closed_clock() -> None:
    clock = FrozenClock()
    clock.close()
    with started("sh", "-c", "echo up; read _; :") as program, pytest.raises(ClockClosed):
        clock.attach(program.pid)


def test_one_on_a_clock_already() -> None:
    with started("sh", "-c", "echo up; read _; :") as program, FrozenClock() as clock:
        clock.attach(program.pid)
        with pytest.raises(ValueError, match="on a clock already"):
            clock.attach(program.pid)
        with clock.popen(["sleep", "1000"]) as other:
            with pytest.raises(ValueError, match="on a clock already"):
                clock.attach(other.pid)
            other.kill()


def test_one_on_another_clock(frozen_clock_factory: Callable[..., FrozenClock]) -> None:
    """Of the same tracer, or of another one."""
    one, other = frozen_clock_factory(1000), frozen_clock_factory(2000)
    with started("sh", "-c", "echo up; while read _; do date +%s; done") as program:
        attached = one.attach(program.pid)
        with pytest.raises(ValueError, match="on a clock already"):
            other.attach(program.pid)
        with FrozenClock() as third, pytest.raises(TracingUnavailable, match="traces it already"):
            third.attach(program.pid)
        assert tell(program, "") == "1000\n"
        attached.close()


def test_one_that_is_traced(build: Builder, real_program: Find) -> None:
    with started(build.c("helpers/attach_reads")) as program, FrozenClock() as clock:
        command = [real_program("strace"), "-f", "-qq", "-o", "/dev/null", "-p", str(program.pid)]
        with subprocess.Popen(command) as strace:
            wait_for(lambda: status(program.pid, "TracerPid") != "0")
            with (
                left_alone(program),
                pytest.raises(TracingUnavailable, match=r"(?s)strace \(pid \d+\) traces it.*end"),
            ):
                clock.attach(program.pid)
            strace.terminate()
        assert tell(program, "r") == "ok\n"


def test_one_that_is_stopped(build: Builder) -> None:
    with started(build.c("helpers/attach_reads")) as program, FrozenClock() as clock:
        os.kill(program.pid, signal.SIGSTOP)
        wait_for(lambda: status(program.pid, "State").startswith("T"))
        with left_alone(program), pytest.raises(UnsupportedProgram, match="SIGCONT"):
            clock.attach(program.pid)
        os.kill(program.pid, signal.SIGCONT)
        assert tell(program, "r") == "ok\n"


def test_one_that_may_not_map_memory() -> None:
    with started(sys.executable, "-c", LIMIT) as program, FrozenClock(1000) as clock:
        with left_alone(program), pytest.raises(UnsupportedProgram):
            clock.attach(program.pid)
        assert abs(int(tell(program, "")) - time.time()) < 60


LIMIT = """
import resource, sys, time
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096, pages * 4096))
print("up", flush=True)
for line in sys.stdin:
    print(int(time.time()), flush=True)
"""


SETS_TIMER = """
import ctypes, struct, sys, time
libc = ctypes.CDLL(None)
print("up", flush=True)
for line in sys.stdin:
    timer = libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
    libc.timerfd_settime(timer, 0, struct.pack("4q", 3600, 0, 3600, 0), None)
    print("ok", flush=True)
"""


def test_the_last_program_of_a_clock_is_let_go_with_a_timer() -> None:
    with started(sys.executable, "-c", SETS_TIMER) as program, FrozenClock(1000) as clock:
        attached = clock.attach(program.pid)
        before = os.listdir("/proc/self/fd")
        assert tell(program, "t") == "ok\n"
        assert len(os.listdir("/proc/self/fd")) == len(before) + 1
        attached.close()
        assert len(os.listdir("/proc/self/fd")) <= len(before)


SETS_ALARMS = """
import ctypes, signal, sys, time
libc, number = ctypes.CDLL(None), ctypes.c_void_p()
for one in (signal.SIGALRM, signal.SIGUSR1):
    signal.signal(one, lambda number, _frame: print(signal.Signals(number).name, flush=True))
print("up", flush=True)
for line in sys.stdin:
    if line == "set\\n":
        signal.alarm(3600)
        event = (ctypes.c_int * 16)(0, 0, signal.SIGUSR1, 0)  # struct sigevent
        libc.timer_create(time.CLOCK_MONOTONIC, event, ctypes.byref(number))
        libc.timer_settime(number, 0, (ctypes.c_long * 4)(0, 0, 3600, 0), None)
    print("ok", flush=True)
"""


def test_timers_of_what_is_let_go_send_nothing() -> None:
    """Neither to it nor to what has its number then."""
    with started(sys.executable, "-c", SETS_ALARMS) as program, FrozenClock(1000) as clock:
        other = clock.popen(["sleep", "7200"])
        attached = clock.attach(program.pid)
        assert tell(program, "set") == "ok\n"
        attached.close()
        clock.advance(hours=1)
        assert tell(program, "ask") == "ok\n"
        clock.advance(hours=1)
        assert other.wait(CEILING_S) == 0


EXECUTES = """
import os, sys, threading, time
def execute():
    sys.stdin.readline()
    os.execvp("cat", ["cat"])
threads = [threading.Thread(target=time.sleep, args=(1000,), daemon=True) for _ in range(6)]
threads.insert(3, threading.Thread(target=execute))
for thread in threads:
    thread.start()
print("up", flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("count", range(2, 8))
def test_a_thread_executes_while_others_are_seized(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exec waits for the ends of those that are, and the next seize for the exec."""
    seize, seized = ptrace.seize, 0

    def seize_late(tid: int, *, may_block: bool = False) -> None:
        nonlocal seized
        seized += 1
        if seized == count:
            program.stdin.write("\n")
            program.stdin.flush()
            comm = Path(f"/proc/{program.pid}/comm")
            wait_for(lambda: procfs.has_ended(program.pid) or comm.read_text() == "cat\n")
        seize(tid, may_block=may_block)

    with started(sys.executable, "-c", EXECUTES) as program, FrozenClock(1000) as clock:
        clock.check_call(["true"])
        monkeypatch.setattr(ptrace, "seize", seize_late)
        clock.attach(program.pid)
        assert [one.argv for one in clock.processes] == [["cat"]]


SETS_ALL = """
import ctypes, os, signal, struct, sys, time
libc, number = ctypes.CDLL(None), ctypes.c_void_p()
came = {signal.SIGALRM: 0, signal.SIGUSR1: 0}
def tell(number, _frame):
    came[number] += 1
    os.write(1, f"{signal.Signals(number).name}\\n".encode())
for one in came:
    signal.signal(one, tell)
print("up", flush=True)
sys.stdin.readline()
spec = struct.pack("4q", 0, 3 * 10**8, 0, 3 * 10**8)
signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
event = (ctypes.c_int * 16)(0, 0, signal.SIGUSR1, 0)  # struct sigevent
libc.timer_create(time.CLOCK_MONOTONIC, event, ctypes.byref(number))
libc.timer_settime(number, 0, spec, None)
timer = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
libc.timerfd_settime(timer, 0, spec, None)
print("ok", flush=True)
sys.stdin.readline()
os.set_blocking(timer, True)
os.read(timer, 8)
while min(came.values()) < 2:
    os.read(timer, 8)
print("timerfd", flush=True)
"""


@pytest.mark.parametrize("by_s", [0, 0.2, 0.3])
def test_timers_of_what_is_let_go_go_on(by_s: float) -> None:
    """In real time, also those that have expired on the clock and begin anew."""
    names = {"SIGALRM\n", "SIGUSR1\n", "timerfd\n"}
    with started(sys.executable, "-c", SETS_ALL) as program:
        with FrozenClock(1000, monotonic="freeze") as clock:
            clock.attach(program.pid)
            assert tell(program, "set") == "ok\n"
            clock.advance(by_s)
        program.stdin.write("\n")
        program.stdin.flush()
        assert {*program.stdout.readlines()} == names


SETS_BY_THREAD = """
import ctypes, select, struct, sys, threading, time
libc = ctypes.CDLL(None)
print("up", flush=True)
sys.stdin.readline()
timer, spec = libc.timerfd_create(time.CLOCK_MONOTONIC, 0), struct.pack("4q", 0, 0, 0, 10**8)
thread = threading.Thread(target=libc.timerfd_settime, args=(timer, 0, spec, None))
thread.start()
thread.join()
print("ok", flush=True)
sys.stdin.readline()
print(select.select([timer], [], [], 30)[0] == [timer], flush=True)
"""


def test_a_timer_goes_on_whose_thread_has_ended() -> None:
    with started(sys.executable, "-c", SETS_BY_THREAD) as program:
        with FrozenClock(1000, monotonic="freeze") as clock:
            clock.attach(program.pid)
            assert tell(program, "set") == "ok\n"
        assert tell(program, "wait") == "True\n"
