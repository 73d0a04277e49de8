"""Language runtimes wait, and `advance` is an hour: every timer has fired, in order, when it
returns."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder
    from tests.real.conftest import Program, Start

START = "2030-01-01T12:00:00Z"
GRACE_NS = 20_000_000
CEILING_S = 30  # of real time

# Each says what ended, and after how many minutes of the monotonic and of the wall clock. Timers
# count in milliseconds or floats, so 0.01 of a minute; where the monotonic clock flows, the wall
# clock has missed what passed before the test moved it.
PYTHON_SAY = """
import time
begin, wall = time.monotonic(), time.time()
def say(what):
    minutes = (time.monotonic() - begin) / 60
    print(what, int(minutes + 0.01), round((time.time() - wall) / 60), flush=True)
print("ready", flush=True)
"""

ASYNCIO = """
import asyncio
async def main():
    loop = asyncio.get_running_loop()
    loop.call_later(1800, say, "call_later")
    loop.call_at(loop.time() + 600, say, "call_at")
    async def loops():
        for _ in range(5):
            await asyncio.sleep(420)
            say("loop")
    task = asyncio.create_task(loops())
    try:
        await asyncio.wait_for(asyncio.Event().wait(), timeout=2400)
    except TimeoutError:
        say("wait_for")
    try:
        async with asyncio.timeout(600):
            await loop.create_future()
    except TimeoutError:
        say("timeout")
    await task
asyncio.run(main())
"""
ASYNCIO_SAYS = [
    *(("loop", 7), ("call_at", 10), ("loop", 14), ("loop", 21), ("loop", 28), ("call_later", 30)),
    *(("loop", 35), ("wait_for", 40), ("timeout", 50)),
]

# One thread after another ends its wait, each by another primitive.
PYTHON_THREADS = """
import queue, select, socket, subprocess, threading
def get():
    try:
        queue.Queue().get(timeout=1800)
    except queue.Empty:
        say("queue")
def child():
    subprocess.run(["sleep", "2400"], check=True)
    say("child")
def polls():
    ours, theirs = socket.socketpair()
    ours.settimeout(3000)
    try:
        ours.recv(1)
    except TimeoutError:
        say("socket")
threading.Timer(600, say, ["Timer"]).start()
lock = threading.Lock()
lock.acquire()
for wait in [
    lambda: threading.Event().wait(1200) or say("Event"),
    get, child, polls,
    lambda: select.select([], [], [], 2700) and say("select"),
    lambda: lock.acquire(timeout=3300) or say("Lock"),
]:
    threading.Thread(target=wait).start()
time.sleep(3480)
say("sleep")
"""
PYTHON_THREADS_SAY = [
    *(("Timer", 10), ("Event", 20), ("queue", 30), ("child", 40), ("select", 45), ("socket", 50)),
    *(("Lock", 55), ("sleep", 58)),
]

# `communicate` waits in poll, `wait` by many short sleeps.
PYTHON_SUBPROCESS = """
import subprocess
for keywords, minutes in ({"capture_output": True}, 10), ({}, 1):
    try:
        subprocess.run(["sleep", "1d"], timeout=minutes * 60, **keywords)
    except subprocess.TimeoutExpired:
        say("expired")
say("end")
"""

NODE = """
const begin = performance.now(), wall = Date.now();
const say = (what) => console.log(what, Math.floor((performance.now() - begin) / 60e3 + 0.01),
    Math.round((Date.now() - wall) / 60e3));
console.log('ready');
let left = 3;
const interval = setInterval(() => { say('interval'); --left || clearInterval(interval) }, 420e3);
setTimeout(say, 1500e3, 'timeout');
setTimeout(() => clearTimeout(never), 100e3);
const never = setTimeout(say, 1000e3, 'never');
require('timers/promises').setTimeout(1800e3).then(() => {
    say('promise');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600e3);
    say('Atomics.wait');
    AbortSignal.timeout(600e3).onabort = () => say('AbortSignal');
    setTimeout(() => say('end'), 1200e3);
});
"""
NODE_SAYS = [
    *(("interval", 7), ("interval", 14), ("interval", 21), ("timeout", 25), ("promise", 30)),
    *(("Atomics.wait", 40), ("AbortSignal", 50), ("end", 60)),
]

JAVA = """
import java.util.concurrent.*;

public class Waits {
    static final long begin = System.nanoTime(), wall = System.currentTimeMillis();

    static void say(String what) {
        double minutes = (System.nanoTime() - begin) / 60e9;
        long atWall = Math.round((System.currentTimeMillis() - wall) / 60e3);
        System.out.println(what + " " + (int) (minutes + 0.01) + " " + atWall);
    }

    public static void main(String[] arguments) throws Exception {
        var executor = Executors.newScheduledThreadPool(2);
        var ticks = new CountDownLatch(3);
        System.out.println("ready");
        executor.schedule(() -> say("schedule"), 1, TimeUnit.MINUTES);
        new CompletableFuture<Void>().orTimeout(2, TimeUnit.MINUTES).exceptionally(error -> {
            say(error.getClass().getSimpleName());
            return null;
        });
        Thread.sleep(180_000);
        say("sleep");
        executor.scheduleAtFixedRate(() -> {
            say("rate");
            ticks.countDown();
        }, 1, 1, TimeUnit.MINUTES);
        ticks.await();
        executor.shutdownNow();
        new LinkedBlockingQueue<String>().poll(1, TimeUnit.MINUTES);
        say("poll");
        Object lock = new Object();
        synchronized (lock) {
            lock.wait(60_000);
        }
        say("wait");
    }
}
"""
JAVA_SAYS = [
    *(("schedule", 1), ("TimeoutException", 2), ("sleep", 3), ("rate", 4), ("rate", 5)),
    *(("rate", 6), ("poll", 7), ("wait", 8)),
]

GO_SAYS = [
    *(("AfterFunc", 10), ("context", 20), ("Sleep", 30), ("After", 40), ("Reset", 50)),
    *[("tick", 51 + i) for i in range(10)],
]

PERL = """
use strict; use Time::HiRes qw(usleep clock_gettime CLOCK_MONOTONIC CLOCK_REALTIME);
$| = 1;
my ($begin, $wall) = (clock_gettime(CLOCK_MONOTONIC), clock_gettime(CLOCK_REALTIME));
sub say {
    my $minutes = (clock_gettime(CLOCK_MONOTONIC) - $begin) / 60;
    printf "%s %d %.0f\\n", $_[0], $minutes + 0.01, (clock_gettime(CLOCK_REALTIME) - $wall) / 60;
}
print "ready\\n";
sleep 600; say "sleep";
select undef, undef, undef, 600; say "select";
usleep 600e6; say "usleep";
$SIG{ALRM} = sub { die "alarm\\n" };
eval { alarm 600; <STDIN> }; chomp $@; say $@;
eval { Time::HiRes::ualarm 300e6; sleep 100000 }; chomp $@; say $@;
"""
PERL_SAYS = [("sleep", 10), ("select", 20), ("usleep", 30), ("alarm", 40), ("alarm", 45)]


def shell(waits: list[str], tool: str = "") -> str:
    """A script that says the status of each wait, and the minutes of the wall clock after it."""
    now = "$(busybox date +%s)" if tool else "$EPOCHSECONDS"
    script = [f'begin={now}; say() {{ echo "$1 $((({now} - begin + 30) / 60))"; }}', "echo ready"]
    return "\n".join([*script, *(f"{tool}{wait}; say $?" for wait in waits)])


BASH = shell(
    [
        "sleep 600",
        "read -t 600",
        "timeout 10m cat",
        "timeout --signal=KILL 5m sleep 1d",
        # one that does not hear, and is killed half an hour later
        "timeout -k 30m 10m bash -c 'trap : TERM; while :; do read; done' <&0",
        "(sleep 300 & sleep 200 & wait)",
        "timeout 10m sleep 300",
    ],
)
BASH_SAYS = [(0, 10), (142, 20), (124, 30), (137, 35), (137, 75), (0, 80), (0, 85)]
BUSYBOX = shell(
    ["sleep 600", "timeout 600 busybox cat", "sh -c 'read -t 600 x'", "usleep 300000000"],
    tool="busybox ",
)
BUSYBOX_SAYS = [(0, 10), (143, 20), (1, 30), (0, 35)]

Find = Callable[[str], str]


@pytest.fixture(params=["flow", "freeze"])
def clock(request: pytest.FixtureRequest) -> Iterator[FrozenClock]:
    with FrozenClock(START, monotonic=request.param) as clock:
        yield clock


def expected(events: list[tuple[str, int]]) -> list[str]:
    return [f"{what} {minute} {minute}" for what, minute in events]


def check(program: Program, clock: FrozenClock, lines: list[str], **delta: Any) -> None:
    """After `delta` and some seconds the program has said it all and is gone."""
    clock.settle()
    assert program.said() == []
    clock.advance(**delta)
    clock.advance(seconds=10)
    assert program.said() == lines
    assert program.popen.poll() == 0


@pytest.mark.parametrize(
    ("script", "says", "minutes"),
    [
        pytest.param(ASYNCIO, ASYNCIO_SAYS, 50, id="asyncio"),
        pytest.param(PYTHON_THREADS, PYTHON_THREADS_SAY, 58, id="threads"),
        pytest.param(
            PYTHON_SUBPROCESS, [("expired", 10), ("expired", 11), ("end", 11)], 11, id="subprocess"
        ),
    ],
)
def test_python(
    script: str, says: list[tuple[str, int]], minutes: int, clock: FrozenClock, start: Start
) -> None:
    program = start(clock, [sys.executable, "-c", PYTHON_SAY + script])
    check(program, clock, expected(says), minutes=minutes)


def test_node(clock: FrozenClock, start: Start, real_program: Find) -> None:
    program = start(clock, [real_program("node"), "-e", NODE])
    check(program, clock, expected(NODE_SAYS), hours=1)


def test_java(clock: FrozenClock, start: Start, real_program: Find, tmp_path: Path) -> None:
    source = tmp_path / "Waits.java"
    source.write_text(JAVA)
    # Few threads of its own that wake up many times a second.
    options = ["-XX:-UsePerfData", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    program = start(clock, [real_program("java"), *options, str(source)])
    check(program, clock, expected(JAVA_SAYS), minutes=8)


def test_go(clock: FrozenClock, start: Start, build: Builder) -> None:
    program = start(clock, [build.go("helpers/timers")])
    check(program, clock, expected(GO_SAYS), hours=1)


def test_perl(clock: FrozenClock, start: Start, real_program: Find) -> None:
    program = start(clock, [real_program("perl"), "-e", PERL])
    check(program, clock, expected(PERL_SAYS), minutes=45)


@pytest.mark.parametrize(
    ("name", "script", "says"),
    [("bash", BASH, BASH_SAYS), ("busybox", BUSYBOX, BUSYBOX_SAYS)],
    ids=["bash", "busybox"],
)
def test_shell(
    name: str,
    script: str,
    says: list[tuple[int, int]],
    clock: FrozenClock,
    start: Start,
    real_program: Find,
) -> None:
    command = [real_program(name), *(["sh"] if name == "busybox" else []), "-c", script]
    lines = [f"{status} {minute}" for status, minute in says]
    program = start(clock, command, stderr=DEVNULL)  # where it tells of what was killed
    check(program, clock, lines, minutes=says[-1][1])


def test_each_at_its_time(clock: FrozenClock, start: Start, build: Builder) -> None:
    """Half an hour is half of what happens in an hour, in whatever steps it comes."""
    program = start(clock, [build.go("helpers/timers")])
    clock.advance(minutes=9, seconds=59)
    assert program.said() == []
    clock.advance(seconds=2)
    assert program.said() == expected(GO_SAYS[:1])
    for _ in range(30):
        clock.advance(minutes=1)
    assert program.said() == expected(GO_SAYS[1:4])
    assert program.popen.poll() is None
    clock.advance(hours=1)
    assert program.said() == expected(GO_SAYS[4:])
    assert program.popen.poll() == 0


def is_closed(client: socket.socket) -> bool:
    """Whether the server has closed the connection by now: nothing is waited for."""
    client.settimeout(0)
    try:
        while client.recv(4096):
            pass  # a last word, such as 400 Bad Request
        return True
    except BlockingIOError:
        return False
    finally:
        client.settimeout(CEILING_S)


def test_go_http_server(clock: FrozenClock, start: Start, build: Builder) -> None:
    """Its clients are outside, in real time."""
    server = start(clock, [build.go("helpers/http_server")])
    address = ("127.0.0.1", int(server.line()))
    with (
        socket.create_connection(address, CEILING_S) as idle,
        socket.create_connection(address, CEILING_S) as slow,
    ):
        idle.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = b""
        while not answer.endswith(b"hello"):
            answer += idle.recv(4096)
        assert b"Date: Tue, 01 Jan 2030 12:00:00 GMT" in answer
        # Settled before the clock moves: the server has taken the connection by then.
        slow.sendall(b"GET / HT")
        clock.advance(seconds=29)
        assert not is_closed(slow)
        clock.advance(seconds=2)
        assert is_closed(slow)
        assert not is_closed(idle)
        clock.advance(minutes=2)
        assert is_closed(idle)
    assert server.said() == []


def test_go_works_while_time_stands_still(build: Builder) -> None:
    """Its own thread that looks after the others sleeps for microseconds, which pass."""
    with FrozenClock(START, monotonic="freeze") as clock:
        command = [build.go("helpers/go_work")]
        passed_ns = int(clock.check_output(command, timeout=CEILING_S))
        assert 0 <= passed_ns <= 5 * GRACE_NS
        assert clock.now.isoformat() == "2030-01-01T12:00:00+00:00"
