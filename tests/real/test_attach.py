"""Programs that run already: attached to, on the clock, and let go as they were."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder

START = "1970-01-01T00:16:40Z"
START_S = 1000
CEILING_S = 60

PYTHON = """
import sys, threading, time
def spin():
    while True:
        time.sleep(0.005)
        for _ in range(100):
            time.time(), time.monotonic()
for _ in range(4):
    threading.Thread(target=spin, daemon=True).start()
print("up", flush=True)
for line in sys.stdin:
    print(int(time.time()), flush=True)
"""
PERL = '$| = 1; print "up\\n"; while (<STDIN>) { print time, "\\n" }'
NODE = """
new (require('worker_threads').Worker)('setInterval(() => Date.now(), 1)', {eval: true}).unref();
require('readline').createInterface({input: process.stdin}).on('line', () =>
    console.log(Math.floor(Date.now() / 1000))).on('close', () => process.exit());
console.log('up');
"""
BASH = "echo up; while read line; do date +%s; done"
JAVA = """
import java.util.Scanner;

public class Answers {
    static volatile long sink;

    static void spin() {
        try {
            while (true) {
                String[] kept = new String[100];
                for (int i = 0; i < 100; i++)
                    kept[i] = "x" + System.nanoTime() + System.currentTimeMillis();
                sink = kept.length;
                Thread.sleep(1);
            }
        } catch (InterruptedException end) {
        }
    }

    public static void main(String[] arguments) {
        for (int i = 0; i < 4; i++) {
            Thread thread = new Thread(Answers::spin);
            thread.setDaemon(true);
            thread.start();
        }
        Scanner lines = new Scanner(System.in);
        System.out.println("up");
        while (lines.hasNextLine()) {
            lines.nextLine();
            System.gc();
            System.out.println(System.currentTimeMillis() / 1000);
        }
    }
}
"""

Find = Callable[[str], str]


def maps(pid: int) -> list[str]:
    """Without what differs between two looks at a program at work: its heap and its threads
    stacks."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in lines if len(line.split()) > 5 and "[heap]" not in line]


class Program:
    """A program that answers each line with what time it is."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.pid = popen.pid
        self._popen = popen
        assert self._line() == "up"

    def _line(self) -> str:
        assert self._popen.stdout
        return self._popen.stdout.readline().strip()

    def seconds(self) -> int:
        assert self._popen.stdin
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()
        return int(self._line())

    def is_in_real_time(self) -> bool:
        return abs(self.seconds() - time.time()) < 60


@contextmanager
def started(command: list[str]) -> Iterator[Program]:
    """It ends at the end of its input, with status 0."""
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as popen:
        try:
            yield Program(popen)
            popen.communicate(timeout=CEILING_S)
            assert popen.returncode == 0
        finally:
            popen.kill()


def check(command: list[str], rounds: int = 10) -> None:
    with started(command) as program, FrozenClock(START) as clock:
        assert program.is_in_real_time()
        before = maps(program.pid)
        for i in range(rounds):
            attached = clock.attach(program.pid)
            assert attached.pid == program.pid
            assert attached.argv[0] == command[0]
            assert program.seconds() == START_S + 3600 * i
            clock.move_to(START_S + 3600 * (i + 1))
            assert program.seconds() == START_S + 3600 * (i + 1)
            attached.close()
            assert program.is_in_real_time()
        assert clock.processes == []
        assert set(before) <= set(maps(program.pid))
        assert "memfd:vdsotime" not in str(maps(program.pid))


# Of what a shell has started for its answer before, the end may be yet to come.
@pytest.mark.filterwarnings("ignore:.*has started before:pytest_vdsotime.RealTimeWarning")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("python3", ["-c", PYTHON]),
        ("perl", ["-e", PERL]),
        ("node", ["-e", NODE]),
        ("bash", ["-c", BASH]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_interpreter(name: str, arguments: list[str], real_program: Find) -> None:
    check([real_program(name), *arguments])


def test_go(build: Builder) -> None:
    check([build.go("helpers/answers")])


def test_java(tmp_path: Path, real_program: Find) -> None:
    source = tmp_path / "Answers.java"
    source.write_text(JAVA)
    subprocess.run([real_program("javac"), "-d", tmp_path, source], check=True)
    check([real_program("java"), "-XX:-UsePerfData", "-cp", str(tmp_path), "Answers"])


@pytest.fixture
def redis(tmp_path: Path, real_program: Find) -> Iterator[tuple[int, Callable[..., str]]]:
    """(pid, a client) of a server started plainly."""
    path = str(tmp_path / "redis.sock")
    options = ["--port", "0", "--unixsocket", path, "--dir", str(tmp_path), "--save", ""]
    with subprocess.Popen(
        [real_program("redis-server"), *options], stdout=PIPE, stderr=STDOUT, text=True
    ) as server:
        assert server.stdout
        assert any("eady to accept connections" in line for line in server.stdout)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(CEILING_S)
            client.connect(path)
            with client.makefile("rw", newline="\r\n") as stream:

                def ask(command: str) -> str:
                    stream.write(f"{command}\r\n")
                    stream.flush()
                    first = str(stream.readline()).strip()
                    if first[:1] == "$" and first != "$-1":
                        return str(stream.readline()).strip()
                    return first

                yield server.pid, ask
        server.kill()  # its own timers wait for the monotonic clock, which has gone back


def test_redis(redis: tuple[int, Callable[..., str]]) -> None:
    pid, ask = redis
    assert ask("SET session alice EX 300") == "+OK"
    before = Path(f"/proc/{pid}/maps").read_text()
    with FrozenClock() as clock:
        clock.attach(pid)
        assert ask("GET session") == "alice"
        clock.advance(minutes=5, seconds=1)
        assert ask("GET session") == "$-1"
        assert ask("SET other bob EX 100") == "+OK"
        assert ask("TTL other") == ":100"
    assert ask("PING") == "+PONG"
    assert ask("SET third carol EX 100") == "+OK"
    assert ask("TTL third") == ":100"
    assert Path(f"/proc/{pid}/maps").read_text() == before


@pytest.mark.parametrize(
    "parameters",
    [{"rate": 1}, {"rate": 60}, {"monotonic": "freeze"}, {"rate": 60, "monotonic": "rate"}],
    ids=str,
)
def test_every_kind_of_clock(parameters: dict[str, float | str], real_program: Find) -> None:
    command = [real_program("perl"), "-e", PERL]
    with started(command) as program, FrozenClock(START, **parameters) as clock:  # type: ignore[arg-type]
        attached = clock.attach(program.pid)
        tick_s = 0.01 * clock.rate  # as late as time(2) may be: a kernel's tick is 10 ms at most
        before = int(clock.time() - tick_s)
        assert before <= program.seconds() <= clock.time()
        clock.advance(hours=1)
        assert 4600 <= program.seconds() <= clock.time()
        attached.close()
        assert program.is_in_real_time()


def test_two_clocks(real_program: Find) -> None:
    command = [real_program("perl"), "-e", PERL]
    with started(command) as first, started(command) as second:
        with FrozenClock(1000) as one, FrozenClock(2000) as other:
            one.attach(first.pid)
            other.attach(second.pid)
            assert (first.seconds(), second.seconds()) == (1000, 2000)
            one.advance(1)
            assert (first.seconds(), second.seconds()) == (1001, 2000)
        assert first.is_in_real_time() and second.is_in_real_time()


ATTACH = """
import subprocess, sys
from pytest_vdsotime import FrozenClock, TracingUnavailable
with FrozenClock(1000) as clock:
    try:
        process = clock.attach(int(sys.argv[1]))
    except TracingUnavailable as error:
        print("no:", error)
    else:
        print(process.pid, len(clock.processes))
    sys.stdout.flush()
    sys.stdin.read()
"""
USERS = {"root": [], "ordinary": ["--reuid=65534", "--regid=65534", "--clear-groups"]}


@contextmanager
def attached_by(user: str, pid: int, directory: Path, setpriv: str) -> Iterator[str]:
    """What a test process of another user prints after it has attached; it lets go at the end."""
    import pytest_vdsotime

    packages = directory / "packages"
    if not packages.exists():
        for name in ("pytest_vdsotime", "ptrace"):
            (package,) = __import__(name).__path__
            shutil.copytree(package, packages / name)
    assert pytest_vdsotime
    command = [setpriv, *USERS[user]] if USERS[user] else []
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages)}
    with subprocess.Popen(
        [*command, "/usr/bin/python3", "-c", ATTACH, str(pid)],
        stdin=PIPE,
        stdout=PIPE,
        text=True,
        cwd="/",
        env=environment,
    ) as holder:
        assert holder.stdout
        yield holder.stdout.readline()
        holder.communicate(timeout=CEILING_S)
        assert holder.returncode == 0


@pytest.mark.parametrize("user", USERS)
def test_from_another_process(user: str, public_dir: Path, real_program: Find) -> None:
    """A server that no test has started, of the same user."""
    setpriv = real_program("setpriv")
    drop = [setpriv, *USERS[user]] if USERS[user] else []
    with started([*drop, real_program("perl"), "-e", PERL]) as program:
        with attached_by(user, program.pid, public_dir, setpriv) as line:
            assert line == f"{program.pid} 1\n"
            assert program.seconds() == START_S
        assert program.is_in_real_time()


def test_another_users_program(public_dir: Path, real_program: Find) -> None:
    setpriv = real_program("setpriv")
    with started([real_program("perl"), "-e", PERL]) as program:
        with attached_by("ordinary", program.pid, public_dir, setpriv) as line:
            assert line.startswith("no: ") and "another user" in line
        assert program.is_in_real_time()


def test_an_undumpable_program(public_dir: Path, real_program: Find) -> None:
    """One that has closed itself to its own user, as ssh-agent does."""
    setpriv = real_program("setpriv")
    undumpable = f"require 'sys/syscall.ph'; syscall(&SYS_prctl, 4, 0); {PERL}"  # PR_SET_DUMPABLE
    with started([setpriv, *USERS["ordinary"], real_program("perl"), "-e", undumpable]) as program:
        with attached_by("ordinary", program.pid, public_dir, setpriv) as line:
            assert line.startswith("no: ") and "PR_SET_DUMPABLE" in line
        assert program.is_in_real_time()
        with FrozenClock(START) as clock:
            clock.attach(program.pid)
            assert program.seconds() == START_S
        assert program.is_in_real_time()
