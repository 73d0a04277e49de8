"""Tests in which programs of many kinds are alive, whose pytest `rounds.py` ends at some moment.

The environment says how: VDSOTIME_ROUND has a round as JSON, VDSOTIME_MARKS names a pipe for the
moments that a test has reached, VDSOTIME_REPORT a file to which programs write what year it is.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import multiprocessing
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock, NotSettled, VdsoTimeError, faults
from pytest_vdsotime.clock import FrozenClockFactory

ROUND: dict[str, Any] = json.loads(os.environ["VDSOTIME_ROUND"])
SCENES: list[str] = ROUND["scenes"]
STORM, ENGINE, ARCHIVE = ROUND["storm"], ROUND["engine"], ROUND["archive"]
CEILING_S = 20
START = "2000-01-01"
YEAR = 'date -u +%Y >>"$VDSOTIME_REPORT"'
YEARS = f"while :; do {YEAR}; sleep 0.01; done"

marks = os.open(os.environ["VDSOTIME_MARKS"], os.O_WRONLY | os.O_CLOEXEC)
reached = [0] * (len(SCENES) + 1)


def mark(scene: int, text: str) -> None:
    """This moment is reached. Some rounds end this process by itself at one."""
    reached[scene] += 1
    os.write(marks, f"{scene} {reached[scene]} {text}\n".encode())
    if ROUND["inside"] and [scene, reached[scene]] >= ROUND["moment"]:
        end_soon(ROUND["inside"], ROUND["delay_s"])
        ROUND["inside"] = ""


def end_soon(way: str, delay_s: float) -> None:
    if way == "exit here":  # between two instructions of the test's thread, wherever it is
        signal.signal(signal.SIGALRM, lambda *_: os._exit(3))
        signal.setitimer(signal.ITIMER_REAL, max(delay_s, 1e-6))
        return
    actions = {
        "exit elsewhere": lambda: os._exit(3),
        "abort elsewhere": os.abort,
        "fault elsewhere": lambda: ctypes.string_at(0),
    }
    timer = threading.Timer(delay_s, actions[way])
    timer.daemon = True
    timer.start()


@pytest.fixture
def reach(request: pytest.FixtureRequest) -> Iterator[Any]:
    """`reach("what")` marks a moment of this test; the last one comes before its clock closes."""
    scene = SCENES.index(request.function.__name__.removeprefix("test_"))

    def at(text: str) -> None:
        mark(scene, text)

    at("begin")
    yield at
    at("close")


@pytest.fixture(scope="session", autouse=True)
def whole_session() -> Iterator[None]:
    """With a fault of the tracer, if the round has one."""
    mark(0, "session")
    with ExitStack() as armed:
        if ROUND["fault"]:
            for point in ROUND["fault"]:
                armed.enter_context(faults.injected(point, fail_once))
        yield
        mark(len(SCENES), "over")
        if ROUND["fault"] and ROUND["error"] == "SystemExit" and ROUND["count"] <= 0:
            check_none_lives()


def check_none_lives() -> None:
    """The tracer has failed as a whole: this process lives on, and no program."""
    until = time.monotonic() + 5
    while left := [pid for pid in filter(str.isdigit, os.listdir("/proc")) if is_of_round(pid)]:
        if time.monotonic() > until:
            os.write(marks, f"left {[*map(described, left)]}\n".encode())
            return
        time.sleep(0.005)


def described(pid: str) -> str:
    with suppress(OSError):
        status = Path("/proc", pid, "status").read_text()
        fields = re.findall(r"^(?:State|PPid|TracerPid):\s*(.*)$", status, re.MULTILINE)
        return f"{pid} {fields} {Path('/proc', pid, 'cmdline').read_bytes()[:80]!r}"
    return f"{pid} (gone)"


def is_of_round(pid: str) -> bool:
    """But for what multiprocessing has in real time, which ends with this process."""
    with suppress(OSError):
        is_own = (
            int(pid) == os.getpid()
            or b"resource_tracker" in Path("/proc", pid, "cmdline").read_bytes()
        )
        return (
            not is_own
            and os.environb[b"VDSOTIME_MARKS"] in Path("/proc", pid, "environ").read_bytes()
        )
    return False


def fail_once(_pid: int) -> None:
    ROUND["count"] -= 1
    if ROUND["count"] == 0:
        os.write(marks, b"fault\n")
        raise {
            "OSError": OSError(errno.EIO, "on purpose"),
            "MemoryError": MemoryError("on purpose"),
            "ZeroDivisionError": ZeroDivisionError("on purpose"),
            "SystemExit": SystemExit("on purpose"),
        }[ROUND["error"]]


def shell(clock: FrozenClock, script: str, **keywords: Any) -> subprocess.Popen[Any]:
    keywords = {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": DEVNULL, **keywords}
    return clock.popen(["/bin/sh", "-c", script], **keywords)


def pause() -> None:
    time.sleep(0.01)


# --- programs -------------------------------------------------------------------------------------

SHELLS = [
    f"{YEARS}",
    f"trap '' TERM HUP INT; {YEARS}",
    f"sleep 1000 | ({YEARS}) | sleep 1000",
    "kill -STOP $$; exec sleep 1000",
    "while :; do /bin/true; done",
]


def test_shells(frozen_clock: FrozenClock, reach: Any) -> None:
    for script in SHELLS:
        reach("start")
        shell(frozen_clock, script)
    pause()


DAEMONS = [
    f"setsid sh -c 'trap \"\" TERM HUP INT; (setsid sleep 1000 &); {YEARS}' & wait",
    f"({YEARS}) & (sleep 1000 &); exit 0",
    "setsid sh -c '(setsid sleep 1000 &); kill -STOP $$'",
]


def test_daemons(frozen_clock: FrozenClock, reach: Any) -> None:
    for script in DAEMONS:
        reach("start")
        shell(frozen_clock, script)
    pause()


THREADS = """
import os, threading, time
def work():
    while True:
        time.sleep(0.003)
        os.write(report, time.strftime("%Y\\n", time.gmtime()).encode())
report = os.open(os.environ["VDSOTIME_REPORT"], os.O_WRONLY | os.O_APPEND)
for _ in range(10):
    threading.Thread(target=work).start()
print("up", flush=True)
"""


def test_threads(frozen_clock: FrozenClock, reach: Any) -> None:
    reach("start")
    program = frozen_clock.popen([sys.executable, "-I", "-S", "-c", THREADS], stdout=PIPE)
    reach("started")
    assert program.stdout
    program.stdout.readline()
    pause()
    for _ in range(3):
        reach("advance")
        frozen_clock.advance(seconds=0.3)
        reach("jump")
        frozen_clock.jump(hours=1)


def test_server(frozen_clock: FrozenClock, reach: Any) -> None:
    words = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--dir", "/"]
    reach("start")
    server = frozen_clock.popen(words, stdout=PIPE, stderr=DEVNULL)
    assert server.stdout
    for line in server.stdout:
        if b"initialized" in line:
            break
    for _ in range(3):
        reach("advance")
        frozen_clock.advance(seconds=30)


def test_storm(frozen_clock: FrozenClock, reach: Any) -> None:
    """Of forks, vforks, threads and execs, from several threads of the test."""

    errors: list[Exception] = []

    def start(first: int) -> None:
        try:
            programs = [
                frozen_clock.popen([STORM, str(first + i), "2"], stdin=DEVNULL, stderr=DEVNULL)
                for i in range(6)
            ]
            for one in programs:
                one.wait(CEILING_S)
        except (VdsoTimeError, subprocess.TimeoutExpired) as error:
            errors.append(error)

    threads = [threading.Thread(target=start, args=(100 * i + 1,), daemon=True) for i in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        reach("storm")
        time.sleep(0.004)
    for thread in threads:
        thread.join(CEILING_S)
    if errors:
        raise errors[0]


def test_starts(frozen_clock: FrozenClock, reach: Any) -> None:
    for _ in range(8):
        reach("start")
        year = frozen_clock.check_output(["date", "-u", "+%Y"])
        assert year == b"2000\n"
        reach("start of a Python child")
        done = frozen_clock.run(["true"], preexec_fn=os.getpid, stdin=DEVNULL)
        assert done.returncode == 0


def test_advance(frozen_clock: FrozenClock, reach: Any) -> None:
    for period in ("0.7", "1", "3"):
        reach("start")
        shell(frozen_clock, f"while :; do {YEAR}; sleep {period}; done")
    shell(frozen_clock, "sleep 5; sleep 1000")
    for _ in range(3):
        reach("advance")
        frozen_clock.advance(seconds=40)
        reach("jump")
        frozen_clock.jump(minutes=1)
        reach("move_to")
        frozen_clock.move_to("2001-02-03")
        reach("rate")
        frozen_clock.rate = 2


@pytest.mark.frozen_time(START, autojump=True)
def test_autojump(frozen_clock: FrozenClock, reach: Any) -> None:
    for _ in range(3):
        reach("start")
        shell(frozen_clock, f"while :; do {YEAR}; sleep 3600; done")
    for _ in range(3):
        reach("jump")
        pause()


FILES = """
cd "$VDSOTIME_DIRECTORY"
while :; do
    : >$0
    stat -c %y $0 | cut -c1-4 >>"$VDSOTIME_REPORT"
    cat /proc/uptime >$0
    ls -l /proc/self >$0
done
"""


@pytest.mark.frozen_time(START, files="follow")
def test_files(frozen_clock: FrozenClock, reach: Any) -> None:
    for i in range(3):
        reach("start")
        words = ["/bin/sh", "-c", FILES, f"file-{i}"]
        frozen_clock.popen(words, stdin=DEVNULL, stderr=DEVNULL)
    pause()
    for _ in range(3):
        reach("advance")
        with suppress(NotSettled):
            frozen_clock.advance(seconds=5, timeout=0.05)


def test_control(frozen_clock: FrozenClock, reach: Any) -> None:
    """The clock is served, and moved by what asks there."""
    reach("serve")
    with frozen_clock.serve() as server:
        reach("start")
        shell(frozen_clock, YEARS, env={**os.environ, **server.environ})
        for _ in range(3):
            reach("ask")
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(CEILING_S)
                client.connect(server.address.removeprefix("unix:"))
                body = b'{"seconds": 10, "timeout": 0.05}'
                head = b"POST /jump HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                client.sendall(head % len(body) + body)
                while client.recv(65536):
                    pass
        reach("serve no more")


def test_terminal(frozen_clock: FrozenClock, reach: Any) -> None:
    """A shell with jobs on a terminal of its own."""
    controller, terminal = pty.openpty()
    reach("start")
    shell_with_jobs = frozen_clock.popen(
        ["sh", "-i"], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    os.write(controller, f"sleep 1000 &\n({YEARS}) &\n{YEARS}\n".encode())
    for _ in range(4):
        reach("run")
        pause()
    os.write(controller, b"\x1a")
    reach("stopped")
    pause()
    assert shell_with_jobs.poll() is None
    os.close(controller)


@pytest.mark.frozen_time(START)
@pytest.mark.filterwarnings("ignore")
def test_other_starts(reach: Any) -> None:
    """What starts programs past `subprocess`."""
    script = ["sh", "-c", f"{YEAR}; sleep 0.01; {YEAR}"]
    for _ in range(3):
        reach("system")
        os.system(f"{YEAR}; sleep 0.001")
        reach("posix_spawn")
        os.waitpid(os.posix_spawn("/bin/sh", script, os.environ), 0)
        reach("posix_spawn with more")
        os.waitpid(os.posix_spawn("/bin/sh", script, os.environ, setpgroup=0), 0)
        reach("fork")
        pid = os.fork()
        if pid == 0:
            try:
                os.execvp("sh", script)
            finally:
                os._exit(1)
        os.waitpid(pid, 0)
        reach("forkpty")
        pid, fd = pty.fork()
        if pid == 0:
            try:
                os.execvp("sh", script)
            finally:
                os._exit(1)
        os.waitpid(pid, 0)
        os.close(fd)
        reach("Popen")
        subprocess.run(script, preexec_fn=os.setsid, stdin=DEVNULL)


def test_attached(frozen_clock: FrozenClock, reach: Any) -> None:
    """Programs that run already: some are let go by the test, the rest when the clock closes."""
    shell(frozen_clock, YEARS)
    taken = []
    for pid in ROUND["witnesses"]:
        reach(f"attach {pid}")
        taken.append(frozen_clock.attach(pid, children=True))
        reach(f"attached {pid}")
    frozen_clock.jump(hours=1)
    reach("advance")
    frozen_clock.advance(seconds=0.3)
    for one in taken[::2]:
        reach(f"let go {one.pid}")
        one.close()
        reach(f"free {one.pid}")
    reach("let go the rest")


def test_aio(frozen_clock: FrozenClock, reach: Any) -> None:
    async def run() -> None:
        reach("start")
        one = await frozen_clock.create_subprocess_exec("sleep", "3600")
        two = await frozen_clock.create_subprocess_shell(YEARS)
        for _ in range(3):
            reach("advance")
            await frozen_clock.aio.jump(1800)
        await one.wait()
        reach("waited")
        two.kill()
        await two.wait()

    asyncio.run(run())


def test_clocks(frozen_clock_factory: FrozenClockFactory, reach: Any) -> None:
    """Many clocks, which come and go."""
    for i in range(5):
        reach("clock")
        clock = frozen_clock_factory(f"20{i:02}-01-01")
        shell(clock, YEARS)
        shell(clock, "trap '' TERM; sleep 1000 & sleep 1000")
        if i % 2:
            reach("close a clock")
            clock.close()


@pytest.fixture(scope="module")
def daemon_of_module(frozen_session_clock: FrozenClock) -> subprocess.Popen[Any]:
    return subprocess.Popen(["sh", "-c", YEARS], stdin=DEVNULL, stderr=DEVNULL)


def test_session(
    daemon_of_module: subprocess.Popen[Any], frozen_session_clock: FrozenClock, reach: Any
) -> None:
    for _ in range(3):
        reach("jump")
        with suppress(NotSettled):
            frozen_session_clock.jump(hours=1, timeout=0.1)
        pause()


@pytest.mark.frozen_time(START)
@pytest.mark.filterwarnings("ignore")
def test_processes(reach: Any) -> None:
    """Those of multiprocessing, which a child in C or a server starts."""
    for kind in ("spawn", "forkserver"):
        context: Any = multiprocessing.get_context(kind)
        reach("start")
        process = context.Process(target=time.sleep, args=(0.02,))
        process.start()
        reach("started")
        process.join(CEILING_S)
        reach("joined")
        process.close()


def test_containers(frozen_clock: FrozenClock, reach: Any) -> None:
    import docker

    reach("engine")
    with frozen_clock.containers(ENGINE):
        reach("engine runs")
        client = docker.from_env(timeout=CEILING_S)
        try:
            said = client.api.import_image(ARCHIVE)
            image = json.loads(said.splitlines()[-1])["status"]
            reach("network")
            network = client.networks.create("vdsotime")
            volume = client.volumes.create("vdsotime")
            reach("run")
            client.containers.run(
                *(image, ["sleep", "1000000"]),
                detach=True,
                network=network.name,
                volumes=[f"{volume.name}:/data"],
                ports={"80/tcp": None},
            )
            reach("run")
            paused = client.containers.run(image, ["sh", "-c", "trap : TERM; sleep 9"], detach=True)
            reach("pause")
            paused.pause()
            reach("advance")
            with suppress(NotSettled):
                frozen_clock.advance(hours=1)
            reach("end of the engine")
        finally:
            client.close()
    reach("no engine")
