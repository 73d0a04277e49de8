"""What ticks each minute, when an hour passes at once and in strides: docs/waits.md has a table."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder
    from tests.real.conftest import Program, Start

Find = Callable[[str], str]

# Each says at which second it ticks.
PYTHON = """
import asyncio, ctypes, os, signal, sys, threading, time
begin = time.monotonic()
def say(times=1):
    for _ in range(times):
        print(round(time.monotonic() - begin), flush=True)
"""
READY = 'print("ready", flush=True)\n'

SLEEP = f"""
{READY}
while True:
    time.sleep(60)
    say()
"""
UNTIL = f"""
{READY}
due = begin
while True:
    due += 60
    time.sleep(max(due - time.monotonic(), 0))
    say()
"""
EVENT = f"""
{READY}
event = threading.Event()
while not event.wait(60):
    say()
"""
ASYNCIO_SLEEP = f"""
async def main():
    {READY}
    while True:
        await asyncio.sleep(60)
        say()
asyncio.run(main())
"""
CALL_LATER = f"""
loop = asyncio.new_event_loop()
def tick():
    say()
    loop.call_later(60, tick)
loop.call_later(60, tick)
{READY}
loop.run_forever()
"""
CALL_AT = f"""
loop = asyncio.new_event_loop()
def tick(due):
    say()
    loop.call_at(due + 60, tick, due + 60)
loop.call_at(begin + 60, tick, begin + 60)
{READY}
loop.run_forever()
"""
SETITIMER = f"""
signal.signal(signal.SIGALRM, lambda *_: say())
signal.setitimer(signal.ITIMER_REAL, 60, 60)
{READY}
while True:
    signal.pause()
"""
TIMERFD = f"""
libc = ctypes.CDLL(None)
timer = libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
libc.timerfd_settime(timer, 0, (ctypes.c_long * 4)(60, 0, 60, 0), None)
{READY}
while True:
    say(int.from_bytes(os.read(timer, 8), sys.byteorder))
"""
# SIGEV_SIGNAL, which is what no sigevent asks for; the overrun is what came besides the signal.
TIMER_CREATE = f"""
libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
libc.timer_create(time.CLOCK_MONOTONIC, None, ctypes.byref(timer))
signal.signal(signal.SIGALRM, lambda *_: say(1 + libc.timer_getoverrun(timer)))
libc.timer_settime(timer, 0, (ctypes.c_long * 4)(60, 0, 60, 0), None)
{READY}
while True:
    signal.pause()
"""

NODE = """
const begin = performance.now();
setInterval(() => console.log(Math.round((performance.now() - begin) / 1000)), 60e3);
console.log('ready');
"""

JAVA = """
import java.util.concurrent.*;

public class Ticker {
    public static void main(String[] arguments) {
        long begin = System.nanoTime();
        Runnable say = () -> System.out.println(Math.round((System.nanoTime() - begin) / 1e9));
        var executor = Executors.newScheduledThreadPool(1);
        if (arguments[0].equals("rate")) {
            executor.scheduleAtFixedRate(say, 1, 1, TimeUnit.MINUTES);
        } else {
            executor.scheduleWithFixedDelay(say, 1, 1, TimeUnit.MINUTES);
        }
        System.out.println("ready");
    }
}
"""

ERLANG = """
Begin = erlang:monotonic_time(millisecond),
{ok, _} = timer:send_interval(60000, tick),
io:format("ready~n"),
Tick = fun(F) -> receive tick ->
    io:format("~p~n", [round((erlang:monotonic_time(millisecond) - Begin) / 1000)]), F(F) end end,
Tick(Tick).
"""

# How many ticks come at which second: in a second, and in an hour and half a minute at once or in
# strides of ten minutes; and in the two minutes after that.
Ticks = dict[int, int]
STRIDES = range(601, 3602, 600)
ONCE_ON_THE_GRID = {3631: 1}, {3660: 1, 3720: 1}
ONCE_FROM_NOW = {3631: 1}, {3691: 1, 3751: 1}
ALL = {3631: 60}, {3660: 1, 3720: 1}
ONE_A_STRIDE_ON_THE_GRID = dict.fromkeys(STRIDES, 1), {3660: 1, 3720: 1}
ONE_A_STRIDE = dict.fromkeys(STRIDES, 1), {3661: 1, 3721: 1}
ALL_OF_EACH_STRIDE = dict.fromkeys(STRIDES, 10), {3660: 1, 3720: 1}

ON_THE_GRID = ONCE_ON_THE_GRID, ONE_A_STRIDE_ON_THE_GRID
FROM_NOW = ONCE_FROM_NOW, ONE_A_STRIDE
COUNTED = ALL, ALL_OF_EACH_STRIDE

PYTHON_TICKERS = {
    "sleep": (SLEEP, FROM_NOW),
    "sleep-until": (UNTIL, COUNTED),
    "event": (EVENT, FROM_NOW),
    "asyncio-sleep": (ASYNCIO_SLEEP, FROM_NOW),
    "call_later": (CALL_LATER, FROM_NOW),
    "call_at": (CALL_AT, COUNTED),
    "setitimer": (SETITIMER, ON_THE_GRID),
    "timerfd": (TIMERFD, COUNTED),
    "timer_create": (TIMER_CREATE, COUNTED),
}
TICKERS = {
    **{name: expected for name, (_, expected) in PYTHON_TICKERS.items()},
    "go-ticker": ON_THE_GRID,
    "java-rate": COUNTED,
    "java-delay": FROM_NOW,
    "node-interval": FROM_NOW,
    "erlang-interval": COUNTED,
}


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock("2030-01-01", monotonic="freeze") as clock:
        yield clock


@pytest.fixture(params=TICKERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ticker(
    name: str,
    clock: FrozenClock,
    start: Start,
    real_program: Find,
    build: Builder,
    tmp_path: Path,
) -> Program:
    if name in PYTHON_TICKERS:
        command = [sys.executable, "-c", PYTHON + PYTHON_TICKERS[name][0]]
    elif name == "go-ticker":
        command = [build.go("helpers/ticker")]
    elif name == "node-interval":
        command = [real_program("node"), "-e", NODE]
    elif name == "erlang-interval":
        command = [real_program("erl"), "-noinput", "-eval", ERLANG]
    else:
        (tmp_path / "Ticker.java").write_text(JAVA)
        options = ["-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", str(tmp_path / "Ticker.java")]
        command = [real_program("java"), *options, name.removeprefix("java-")]
    program = start(clock, command, env={**os.environ, "HOME": "/"})  # Erlang wants one
    clock.advance(1)
    return program


def ticks(ticker: Program) -> Ticks:
    """How many there were at which second since this was last asked."""
    return dict(Counter(map(int, ticker.said())))


def test_a_jump(name: str, clock: FrozenClock, ticker: Program) -> None:
    clock.jump(hours=1, seconds=30)
    late = ticks(ticker)
    clock.advance(minutes=2, seconds=5)
    assert (late, ticks(ticker)) == TICKERS[name][0]


def test_strides(name: str, clock: FrozenClock, ticker: Program) -> None:
    clock.advance(hours=1, seconds=30, stride="10m")
    late = ticks(ticker)
    clock.advance(minutes=2, seconds=5)
    assert (late, ticks(ticker)) == TICKERS[name][1]


# Debian's cron, in a mount namespace of its own, where it does not find this machine's jobs.
CRON = "mount --bind crontab /etc/crontab; for place in /etc/cron.d /var/spool/cron/crontabs /run; "
CRON += "do mount --bind empty $place; done; exec cron -f"
CRONTAB = """\
* * * * *   root  date -u "+minute \\%F \\%R" >>{0}
20 4 * * *  root  date -u "+at 04:20, \\%F \\%R" >>{0}
"""
CRON_JOBS: dict[str, tuple[Callable[[FrozenClock], None], list[str]]] = {
    "a few minutes": (
        lambda clock: clock.jump(minutes=4),
        ["minute 2028-02-01 04:05"] * 4,
    ),
    "an hour": (
        lambda clock: clock.jump(hours=1),
        ["minute 2028-02-01 05:01", "at 04:20, 2028-02-01 05:01"],
    ),
    "a month": (lambda clock: clock.jump(days=30), ["minute 2028-03-02 04:01"]),
    "strides": (
        lambda clock: clock.advance(minutes=30, stride="10m"),
        [
            *(f"minute 2028-02-01 04:{minute}" for minute in (11, 21, 31)),
            "at 04:20, 2028-02-01 04:21",
        ],
    ),
}


@pytest.mark.parametrize("name", CRON_JOBS)
def test_cron(name: str, as_root: None, tmp_path: Path) -> None:
    """It knows what to make up for after a suspend, and that nobody wants a month of it."""
    move, jobs = CRON_JOBS[name]
    log = tmp_path / "log"
    (tmp_path / "crontab").write_text(CRONTAB.format(log))
    (tmp_path / "empty").mkdir()
    with FrozenClock("2028-02-01T04:00:30", monotonic="freeze") as clock:
        command = ["unshare", "--mount", "sh", "-ec", CRON]
        cron = clock.popen(command, cwd=tmp_path, env={**os.environ, "TZ": "UTC"})
        clock.advance(60)
        log.write_text("")
        move(clock)
        assert sorted(log.read_text().splitlines()) == sorted(jobs)
        cron.terminate()
        cron.wait()
