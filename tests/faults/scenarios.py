"""What the tracer does while one of its calls fails. Without a failure each ends within seconds."""

from __future__ import annotations

import gc
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, TypeVar

from pytest_vdsotime import FrozenClock, RealTimeWarning, VdsoTimeError
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.thread import Tracer

T = TypeVar("T")
CEILING_S, BRIEF_S = 15, 1
NOBODY = 65534


class Told:
    """What a test would have seen."""

    def __init__(self, caught: Sequence[warnings.WarningMessage]) -> None:
        self._caught = caught
        self.errors: list[str] = []
        self.unnamed: list[str] = []
        """Errors that do not say what has failed."""
        self.wrong: list[str] = []
        self.stuck: list[str] = []
        """What is wrong whatever was said."""

    @property
    def real(self) -> list[str]:
        """Warnings of programs in real time."""
        return [str(one.message) for one in self._caught if one.category is RealTimeWarning]

    def attempt(self, what: str, action: Callable[..., T], *args: Any, **keywords: Any) -> T | None:
        try:
            return action(*args, **keywords)
        except Exception as error:
            self.failed(what, error)
            return None

    def failed(self, what: str, error: Exception) -> None:
        text = f"{what}: {type(error).__name__}: {error}"
        is_named = isinstance(error, VdsoTimeError) or (
            isinstance(error, OSError) and error.errno is not None
        )
        self.errors.append(text)
        if not is_named:
            self.unnamed.append(text)
            traceback.print_exception(error, file=sys.stderr)

    def expect(self, what: str, found: Any, wanted: Any) -> None:
        is_right = re.fullmatch(wanted, found) if isinstance(found, bytes) else found == wanted
        if not is_right:
            self.wrong.append(f"{what}: {found!r}, not {wanted!r}")

    @property
    def has_said(self) -> bool:
        return bool(self.errors or self.real)


def start(
    told: Told, clock: FrozenClock, *command: str, **keywords: Any
) -> subprocess.Popen[bytes] | None:
    popen: Callable[..., subprocess.Popen[bytes]] = clock.popen
    streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": DEVNULL}
    return told.attempt("popen", popen, command, **streams, **keywords)


def check_end(
    told: Told, program: subprocess.Popen[bytes] | None, output: bytes, status: int = 0
) -> None:
    """What a failure that was told of has left need not come to its end."""
    if program is None:
        return
    ceiling_s = BRIEF_S if told.has_said else CEILING_S
    try:
        said, _ = program.communicate(timeout=ceiling_s)
    except subprocess.TimeoutExpired:
        if not told.has_said:
            told.stuck.append(f"{program.args!r} does not end")
    except Exception as error:
        told.failed("communicate", error)
    else:
        told.expect("status", program.returncode, status)
        told.expect("output", said, output)


def shell(told: Told, clock: FrozenClock) -> None:
    program = start(told, clock, "sh", "-c", "date +%F; sleep 60; date +%F; exec sleep 1")
    told.attempt("advance", clock.advance, 60)
    told.attempt("settle", clock.settle)
    told.attempt("advance", clock.advance, 1)
    check_end(told, program, rb"2000-01-01\n2000-01-01\n")


TIMERS = r"""
$| = 1;
$SIG{ALRM} = sub { print "alarm\n" };
alarm 5;
select(undef, undef, undef, 20);
print 1900 + (gmtime)[5], "\n";
sleep 30;
print time() < 1e9 ? "early" : "late", "\n";
"""


def timers(told: Told, clock: FrozenClock) -> None:
    ended = start(told, clock, "timeout", "50", "sleep", "100")
    alarmed = start(told, clock, "perl", "-e", TIMERS)
    told.attempt("advance", clock.advance, 10)
    told.attempt("advance", clock.advance, 90)
    check_end(told, ended, b"", 124)
    check_end(told, alarmed, rb"alarm\n2000\nearly\n")


TICKS = """
import ctypes, os, struct, time
libc, period_ns, count = ctypes.CDLL(None), 10**7, 0
timer, begin_ns = libc.timerfd_create(time.CLOCK_MONOTONIC, 0), time.monotonic_ns()
libc.timerfd_settime(timer, 0, struct.pack("4q", 0, period_ns, 0, period_ns), None)
while count < 30:
    count += struct.unpack("Q", os.read(timer, 8))[0]
print(count <= (time.monotonic_ns() - begin_ns) // period_ns)
"""


def ticks(told: Told, clock: FrozenClock) -> None:
    program = start(told, clock, sys.executable, "-S", "-c", TICKS)
    for rate in (1, 2, 1):
        time.sleep(0.05)
        told.attempt("rate", setattr, clock, "rate", rate)
    check_end(told, program, rb"True\n")


THREADS = """
import os, select, signal, subprocess, threading, time
event = threading.Event()
def wait():
    event.wait(30)
    select.select([], [], [], 5)
threads = [threading.Thread(target=wait) for _ in range(3)]
for thread in threads:
    thread.start()
queue, pipe = select.epoll(), os.pipe()
queue.register(pipe[0], select.EPOLLIN)
queue.poll(40)
subprocess.run(["true"], check=True)
for thread in threads:
    thread.join()
print(time.gmtime()[0], flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
print(time.gmtime()[0], flush=True)
"""


def threads(told: Told, clock: FrozenClock) -> None:
    program = start(told, clock, sys.executable, "-S", "-c", THREADS)
    told.attempt("advance", clock.advance, 60)
    told.attempt("settle", clock.settle)
    until_s = time.monotonic() + (BRIEF_S if told.has_said else CEILING_S)
    while program is not None and program.poll() is None and time.monotonic() < until_s:
        with suppress(OSError), open(f"/proc/{program.pid}/stat") as file:  # or it has just ended
            if file.read().rpartition(")")[2].split()[0] in "tT":
                program.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    check_end(told, program, rb"2000\n2000\n")


def jumping(told: Told, clock: FrozenClock) -> None:
    program = start(told, clock, "sh", "-c", "sleep 3600; date +%Y; sleep 86400; date +%Y")
    check_end(told, program, rb"2000\n2000\n")


def files(told: Told, clock: FrozenClock) -> None:
    script = (
        "touch a; stat -c %y a; sleep 60; touch b; find . -mmin +0.5 -name '[ab]'; "
        "ps -o etimes= -p $$; cut -c1 /proc/uptime | wc -c"
    )
    with tempfile.TemporaryDirectory() as directory:
        program = start(told, clock, "sh", "-c", script, cwd=directory)
        told.attempt("advance", clock.advance, 60)
        check_end(told, program, rb"2000-01-01 .*\n\./a\n *(59|6[0-9])\n2\n")
        told.attempt("close", clock.close)


def of_another_user(told: Told, clock: FrozenClock) -> None:
    """Who has a private copy of the clock page."""
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    script = "date +%F; for i in 1 2 3; do sleep 60; done; date +%F"
    program = start(told, clock, "sh", "-c", script, cwd="/", **user)
    told.attempt("advance", clock.advance, 60)
    told.attempt("move_to", clock.move_to, "2001-02-03")
    told.attempt("advance", clock.advance, 120)
    check_end(told, program, rb"2000-01-01\n2001-02-03\n")


def closed(told: Told, clock: FrozenClock) -> None:
    """With programs in the midst of what they do."""
    code = "import threading, time; threading.Timer(9, print).start(); time.sleep(99)"
    start(told, clock, "sh", "-c", "while :; do true & sleep 0.001; done")
    start(told, clock, "sleep", "100")
    start(told, clock, sys.executable, "-S", "-c", code)
    time.sleep(0.1)


def moved(told: Told, clock: FrozenClock) -> None:
    program = start(told, clock, "sh", "-c", "for i in 1 2 3; do sleep 30; date +%Y; done")
    told.attempt("rate", setattr, clock, "rate", 2)
    told.attempt("advance", clock.advance, 30)
    told.attempt("move_to", clock.move_to, "2001-01-01")
    told.attempt("jump", clock.jump, 30)
    told.attempt("settle", clock.settle)
    told.attempt("advance", clock.advance, 31, stride=10)
    check_end(told, program, rb"2000\n2001\n2001\n")


ADVANCE = """
curl -sS --fail-with-body --unix-socket $SOCKET http://clock/advance -d '{"seconds": 3600}' &&
date +%H
"""


def controlled(told: Told, clock: FrozenClock) -> None:
    """By a program on the clock, over HTTP, which is told of errors then."""
    server = told.attempt("serve", clock.serve)
    if server is None:
        return
    with server:
        socket = server.environ["VDSOTIME_CONTROL"].removeprefix("unix:")
        program = start(told, clock, "sh", "-c", ADVANCE, env={**os.environ, "SOCKET": socket})
        if program is None:
            return
        said, _ = program.communicate(timeout=CEILING_S)
        if program.returncode and b'"error"' in said:
            told.errors.append(f"POST /advance: {said!r}")
        told.attempt("settle", clock.settle)
        told.expect("status", program.returncode, 0)
        told.expect("output", said[-3:], rb"01\n")


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def asking(told: Told, clock: FrozenClock) -> None:
    """A server in the test process, each second."""
    with HTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        ask = f"curl -sS --max-time 5 -o /dev/null http://127.0.0.1:{server.server_port}/"
        program = start(
            told, clock, "sh", "-c", f"for i in 1 2 3; do {ask} || exit 1; sleep 1; done; date +%Y"
        )
        told.attempt("advance", clock.advance, 5)
        check_end(told, program, rb"2000\n")
        server.shutdown()
        thread.join()


ANSWERS = "$| = 1; while (<STDIN>) { print 1900 + (gmtime)[5], chr(10) } sleep 1"


def attached(told: Told, clock: FrozenClock) -> None:
    year = time.strftime("%Y\n", time.gmtime()).encode()
    program = subprocess.Popen(["perl", "-e", ANSWERS], stdin=PIPE, stdout=PIPE)
    assert program.stdin and program.stdout

    def said() -> bytes:
        assert program.stdin and program.stdout
        try:
            program.stdin.write(b"\n")
            program.stdin.flush()
        except BrokenPipeError:
            return b"it has ended"
        is_there = select.select([program.stdout], [], [], CEILING_S)[0]
        return program.stdout.readline() if is_there else b"no answer"

    told.expect("before", said(), year)
    found = told.attempt("attach", clock.attach, program.pid)
    if found is not None:
        told.expect("attached", said(), b"2000\n")
        told.attempt("advance", clock.advance, 1)
        told.attempt("close", found.close)
    is_killed = any("was killed" in one for one in told.errors)
    if not is_killed:  # then it is as it was, whatever was said
        if (answer := said()) != year:
            told.stuck.append(f"let go: {answer!r}")
        with suppress(BrokenPipeError):
            program.stdin.close()
        until_s = time.monotonic() + CEILING_S
        while program.poll() is None and time.monotonic() < until_s:
            time.sleep(0.005)
        if program.poll() != 0:
            told.stuck.append(f"what was attached to ends with {program.poll()}")
    program.kill()
    program.wait()
    program.stdout.close()
    with suppress(BrokenPipeError):
        program.stdin.close()


SETS_TIMERS = """
import ctypes, os, select, signal, struct, sys, time
libc, number, came = ctypes.CDLL(None), ctypes.c_void_p(), set()
for one in "SIGALRM", "SIGUSR1":
    signal.signal(signal.Signals[one], lambda number, _: came.add(signal.Signals(number).name))
print("up", flush=True)
sys.stdin.readline()
spec = struct.pack("4q", 0, 0, 0, 10**8)
signal.setitimer(signal.ITIMER_REAL, 0.1)
event = (ctypes.c_int * 16)(0, 0, signal.SIGUSR1, 0)  # struct sigevent
libc.timer_create(time.CLOCK_MONOTONIC, event, ctypes.byref(number))
libc.timer_settime(number, 0, spec, None)
timer = libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
libc.timerfd_settime(timer, 0, spec, None)
print("set", flush=True)
sys.stdin.readline()
end_s = time.monotonic() + 3
while len(came) < 3 and time.monotonic() < end_s:
    if select.select([timer] if "timerfd" not in came else [], [], [], 0.05)[0]:
        came.add("timerfd")
print(*sorted(came), flush=True)
"""


def released(told: Told, clock: FrozenClock) -> None:
    """The timers of a program that is let go go on in real time, or it is said that they do not."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", SETS_TIMERS], stdin=PIPE, stdout=PIPE
    ) as program:
        assert program.stdin and program.stdout
        try:
            told.expect("before", program.stdout.readline(), b"up\n")
            found = told.attempt("attach", clock.attach, program.pid)
            program.stdin.write(b"\n")
            program.stdin.flush()
            told.expect("attached", program.stdout.readline(), b"set\n")
            if found is not None:
                told.attempt("close", found.close)
            program.stdin.close()
            is_there = select.select([program.stdout], [], [], CEILING_S)[0]
            said = program.stdout.readline() if is_there else b"no answer"
            told.expect("let go", said, b"SIGALRM SIGUSR1 timerfd\n")
        except BrokenPipeError:
            told.wrong.append("it has ended")
        finally:
            program.kill()
            with suppress(BrokenPipeError):
                program.stdin.close()


SCENARIOS: dict[str, tuple[Callable[[Told, FrozenClock], None], dict[str, Any]]] = {
    "shell": (shell, {}),
    "frozen": (shell, {"monotonic": "freeze"}),
    "timers": (timers, {}),
    "ticks": (ticks, {"rate": 2, "monotonic": "rate"}),
    "threads": (threads, {}),
    "jumping": (jumping, {"autojump": 0.01}),
    "files": (files, {"files": "follow"}),
    "copies": (of_another_user, {}),
    "moved": (moved, {}),
    "controlled": (controlled, {}),
    "asking": (asking, {"patience": 5}),
    "closed": (closed, {}),
    "attached": (attached, {}),
    "released": (released, {"monotonic": "freeze"}),
}


def _left(descriptors: set[str]) -> list[str]:
    paths = (Path("/proc/self/fd", name) for name in set(os.listdir("/proc/self/fd")) - descriptors)
    names = [os.readlink(path) for path in paths if path.is_symlink()]
    others = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
    return sorted(one for one in names if "seccomp" not in one) + others


def play(name: str, tracer: Tracer) -> dict[str, Any]:
    """Return what was told, and what is left."""
    scenario, parameters = SCENARIOS[name]
    descriptors = set(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told = Told(caught)
        clock = told.attempt("clock", clock_on, tracer, "2000-01-01", **parameters)
        if clock is not None:
            told.attempt("scenario", scenario, told, clock)
            told.attempt("close", clock.close)
        told.attempt("close the tracer", tracer.close)
        gc.collect()
    names = "errors", "unnamed", "wrong", "stuck", "real"
    return {"left": _left(descriptors), **{name: getattr(told, name) for name in names}}
