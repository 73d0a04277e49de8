"""Strides and jumps: what is due within one comes once, at its end. Whatever a program or a test
does meanwhile, the clock stays usable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock, NotSettled

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30
HOUR_S = 3600
NS_PER_S = 10**9
VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]


class Ticker:
    """tests/programs/helpers/each_time.c on a clock, once it waits."""

    def __init__(self, clock: FrozenClock, command: list[str]) -> None:
        self.popen = clock.popen(command, stdin=PIPE, stdout=PIPE, bufsize=0)
        clock.settle(CEILING_S)

    def said(self) -> list[tuple[float, int]]:
        """When, in seconds, and how many: what it has said since."""
        assert self.popen.stdout
        fd = self.popen.stdout.fileno()
        os.set_blocking(fd, False)
        lines = (self.popen.stdout.read() or b"").decode().split("\n")[:-1]
        return [(int(at) / NS_PER_S, int(count)) for at, count in map(str.split, lines)]


Tick = Callable[..., Ticker]


@pytest.fixture
def tick(build: Builder) -> Iterator[Tick]:
    """`tick(clock, way, seconds)` is a `Ticker`."""
    with ExitStack() as programs:

        def tick(clock: FrozenClock, way: str, seconds: int = 60) -> Ticker:
            ticker = Ticker(clock, [build.c("helpers/each_time"), way, str(seconds)])
            programs.enter_context(ticker.popen)
            programs.callback(ticker.popen.kill)
            return ticker

        yield tick


# What comes of one.


@pytest.mark.parametrize(
    ("way", "count"), [("timerfd", 60), ("timer", 60), ("itimer", 1), ("sleep", 1), ("poll", 1)]
)
@pytest.mark.parametrize("monotonic", ["freeze", "flow"])
def test_jump(tick: Tick, way: str, count: int, monotonic: str) -> None:
    """It is told all its expirations, or ends once, and goes on from the new now."""
    with FrozenClock(0, monotonic=monotonic) as clock:
        ticker = tick(clock, way)
        clock.jump(hours=1)
        assert clock.time() == HOUR_S
        assert ticker.said() == [(HOUR_S, count)]
        if monotonic == "freeze":
            clock.advance(60)
            assert ticker.said() == [(HOUR_S + 60, 1)]


@pytest.mark.parametrize(
    ("way", "count"), [("timerfd", 60), ("timer", 60), ("itimer", 1), ("sleep", 1), ("poll", 1)]
)
def test_strides_of_the_clock(tick: Tick, way: str, count: int) -> None:
    with FrozenClock(0, monotonic="freeze", stride="1h") as clock:
        ticker = tick(clock, way)
        clock.advance(hours=2.5)
        assert ticker.said()[:2] == [(HOUR_S, count), (2 * HOUR_S, count)]
        assert clock.time() == 2.5 * HOUR_S


def test_another_stride_than_the_clocks(tick: Tick) -> None:
    with FrozenClock(0, monotonic="freeze", stride="1h") as clock:
        ticker = tick(clock, "sleep")
        clock.advance(120, stride=None)
        assert ticker.said() == [(60, 1), (120, 1)]
        clock.advance(3 * 60, stride=timedelta(seconds=90))
        assert ticker.said() == [(210, 1), (300, 1)]
        clock.advance("2h")
        assert ticker.said() == [(300 + HOUR_S, 1), (300 + 2 * HOUR_S, 1)]


def test_strides_of_a_jumping_clock(tick: Tick) -> None:
    with FrozenClock(0, autojump=True, stride="1h") as clock:
        script = "for i in 1 2 3; do sleep 60; date +%s; done"
        done = clock.run(["bash", "-c", script], stdout=PIPE, timeout=CEILING_S)
        assert done.stdout == b"3600\n7200\n10800\n"


@pytest.mark.parametrize("stride", [0.5, 7, 59, 60, 61, 1000])
@pytest.mark.parametrize("way", ["sleep", "poll", "timerfd"])
def test_up_to_one_stride_late_never_early(tick: Tick, way: str, stride: float) -> None:
    with FrozenClock(0, monotonic="freeze") as clock:
        ticker = tick(clock, way)
        clock.advance(2000, stride=stride)
        due, said = 60.0, ticker.said()
        assert len(said) > 1
        for at, count in said:
            if way == "timerfd":
                assert at - stride < due + 60 * (count - 1) <= at
                due += 60 * count
            else:
                assert due <= at < due + stride
                due = at + 60


@pytest.mark.parametrize("way", ["timers", "threads"])
def test_a_hundred_thousand_deadlines_in_one_stride(tick: Tick, way: str) -> None:
    with FrozenClock(0, monotonic="freeze") as clock:
        ticker = tick(clock, way, 36)
        clock.jump(hours=1, timeout=CEILING_S)
        if way == "timers":
            assert ticker.said() == [(HOUR_S, 100_000)]
        else:
            assert ticker.popen.stdin
            ticker.popen.stdin.write(b"\n")
            clock.settle(CEILING_S)
            assert ticker.said() == [(HOUR_S, 1000)]


def test_no_span() -> None:
    with FrozenClock(0) as clock:
        sleep = clock.popen(["sleep", "60"])
        clock.jump(0)
        assert clock.time() == 0
        assert sleep.poll() is None


# Programs that come and go meanwhile.


@pytest.mark.parametrize("stride", ["1h", "100s", "60s"])
def test_a_program_dies_in_a_stride(tick: Tick, stride: str) -> None:
    with FrozenClock(0, monotonic="freeze", stride=stride) as clock:
        dying, killed, other = tick(clock, "dies"), tick(clock, "is-killed"), tick(clock, "sleep")
        clock.advance(hours=2)
        assert len(dying.said()) == len(killed.said()) == 1
        assert dying.popen.wait(CEILING_S) == 0
        assert killed.popen.wait(CEILING_S) == -signal.SIGKILL
        assert other.said()[-1][0] == 2 * HOUR_S
        assert clock.time() == 2 * HOUR_S


@pytest.mark.parametrize(("way", "count"), [("execs", 3), ("forks", 5)])
def test_a_program_forks_or_execs_in_a_stride(tick: Tick, way: str, count: int) -> None:
    """It and its child sleep from the stride's end on."""
    with FrozenClock(0, monotonic="freeze") as clock:
        ticker = tick(clock, way)
        clock.advance(hours=3, stride="1h")
        times = [at for at, _ in ticker.said()]
        if way == "execs":
            assert times == [HOUR_S, 2 * HOUR_S, 3 * HOUR_S]
        else:  # the parent has a child each time
            assert times == [HOUR_S] + [2 * HOUR_S] * 2 + [3 * HOUR_S] * 3
            assert len(clock.processes) == 4
        assert count


@pytest.mark.parametrize("call", ["advance", "jump"])
def test_a_program_never_rests_after_it(tick: Tick, call: str) -> None:
    with FrozenClock(0, monotonic="freeze", stride="1h") as clock:
        spinning, other = tick(clock, "spins"), tick(clock, "sleep")
        with pytest.raises(NotSettled, match=f"pid {spinning.popen.pid}"):
            getattr(clock, call)(hours=1, timeout=0.5)
        spinning.popen.kill()
        spinning.popen.wait(CEILING_S)
        before_s = clock.time()
        clock.jump(hours=1)
        assert clock.time() == before_s + HOUR_S
        assert other.said()[-1][0] == clock.time()


# What the test does meanwhile.


def test_a_jump_waits_its_turn(tick: Tick) -> None:
    """While another thread advances."""
    with FrozenClock(0, monotonic="freeze") as clock:
        ticker = tick(clock, "sleep", 1)
        thread = threading.Thread(target=clock.advance, args=(500,))
        thread.start()
        while clock.time() < 10:
            time.sleep(0.001)
        clock.jump(1000)
        thread.join(CEILING_S)
        assert clock.time() == 1500
        assert ticker.said() == [(float(at), 1) for at in [*range(1, 501), 1500]]


# What cannot be.

BAD_STRIDES = {
    "zero": (0, ValueError),
    "negative": (-1, ValueError),
    "nan": (float("nan"), ValueError),
    "inf": (float("inf"), ValueError),
    "less than a nanosecond": (1e-12, ValueError),
    "no timedelta": (timedelta(0), ValueError),
    "negative timedelta": (timedelta(seconds=-1), ValueError),
    "no span": ("1x", ValueError),
    "empty": ("", ValueError),
    "zero span": ("0s", ValueError),
    "negative span": ("-1h", ValueError),
    "a date": ("2038-01-19", ValueError),
    "bool": (True, TypeError),
    "bytes": (b"1h", TypeError),
    "list": ([1], TypeError),
    "complex": (1j, TypeError),
}
each_bad_stride = pytest.mark.parametrize(
    ("stride", "error"), list(BAD_STRIDES.values()), ids=list(BAD_STRIDES)
)


@each_bad_stride
def test_a_stride_that_cannot_be(stride: Any, error: type[Exception]) -> None:
    with FrozenClock(0) as clock:
        sleep = clock.popen(["sleep", "1"])
        with pytest.raises(error, match="stride"):
            clock.advance(hours=1, stride=stride)
        assert clock.time_ns() == 0
        assert sleep.poll() is None


@each_bad_stride
def test_a_clock_with_a_stride_that_cannot_be(stride: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="stride"):
        FrozenClock(0, stride=stride)


@pytest.mark.parametrize("stride", ["0", "-1", "nan", "inf", "1x", "", "0s", "2038-01-19"])
def test_the_command_with_a_stride_that_cannot_be(stride: str) -> None:
    done = subprocess.run(
        [*VDSOTIME, f"--stride={stride}", "--", "echo", "it ran"],
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vdsotime: --stride") and done.stderr.count("\n") == 1
    assert "timedelta" not in done.stderr  # which nobody can write in a shell


@pytest.mark.parametrize(
    ("delta", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1x", ValueError)]
    + [("", ValueError), (b"1h", TypeError), (None, TypeError), (timedelta(-1), ValueError)],
    ids=repr,
)
def test_a_jump_that_cannot_be(delta: Any, error: type[Exception]) -> None:
    with FrozenClock(0) as clock:
        sleep = clock.popen(["sleep", "1"])
        with pytest.raises(error):
            clock.jump(delta)
        with pytest.raises(TypeError):
            clock.jump(1, hours=1)
        with pytest.raises(TypeError):
            clock.jump(1, stride="1h")  # type: ignore[call-arg]
        assert clock.time_ns() == 0
        assert sleep.poll() is None


def test_beyond_the_year_9999() -> None:
    with FrozenClock("9999-12-31", monotonic="freeze") as clock:
        sleep, before_ns = clock.popen(["sleep", "60"]), clock.time_ns()
        for call in clock.jump, clock.advance:
            with pytest.raises(ValueError, match="9999"):
                call(days=2)
        with pytest.raises(ValueError, match="9999"):
            clock.advance(days=2, stride="1h")
        assert clock.time_ns() == before_ns
        assert sleep.poll() is None
        clock.advance(hours=1, stride=timedelta(days=10**6))  # a stride is longer than time is left
        assert sleep.wait(CEILING_S) == 0
        assert clock.time_ns() == before_ns + HOUR_S * NS_PER_S


@pytest.mark.parametrize(("stride", "accepted"), [("0", "*stride*"), ("1x", "*stride*")])
def test_ini_with_a_stride_that_cannot_be(
    pytester: pytest.Pytester, alone: Callable[..., list[str]], stride: str, accepted: str
) -> None:
    pytester.makeini(f"[pytest]\nvdso_stride = {stride}")
    pytester.makepyfile("def test_never_runs(): print('it ran')")
    result = pytester.runpytest_subprocess(*alone(), "-s")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: ini option vdso_stride = {stride}: {accepted}"])
    result.stdout.no_fnmatch_line("*it ran*")


@pytest.mark.parametrize("stride", ["0", "-1.5", "float('nan')", "'1x'", "True", "[]"])
def test_marker_with_a_stride_that_cannot_be(
    pytester: pytest.Pytester, alone: Callable[..., list[str]], stride: str
) -> None:
    pytester.makepyfile(
        f"""
        import pytest
        @pytest.mark.frozen_time(stride={stride})
        def test_never_runs(): print('it ran')
        """
    )
    result = pytester.runpytest_subprocess(*alone(), "-s")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *frozen_time(stride=*: *stride*"])
    result.stdout.no_fnmatch_line("*it ran*")
