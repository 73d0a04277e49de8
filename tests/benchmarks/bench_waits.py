"""Waits that follow the clock."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Medians, Table, Timed

Sleeping = Callable[[int, float], list[str]]
MANY = 200


@pytest.fixture
def sleeping(tmp_path: Path) -> Sleeping:
    """`sleeping(count, seconds)` is the command of a static program that sleeps so often."""
    source = Path(__file__).with_name("sleep_loop.c")
    output = str(tmp_path / "sleep_loop")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-static"]
    subprocess.run([*compiler, "-O2", "-o", output, str(source)], check=True)
    return lambda count, seconds: [output, str(count), str(round(seconds * 1e9))]


def test_sleeps_that_are_jumped_over(table: Table, medians: Medians, sleeping: Sleeping) -> None:
    count = 10_000
    with FrozenClock(0, autojump=True) as clock:

        def sleeps() -> float:
            began = time.perf_counter()
            clock.run(sleeping(count, 1), check=True)
            return time.perf_counter() - began

        (took,) = medians(sleeps)
    figures = f"{count / took:,.0f} sleeps a second"
    table.check("a sleep under autojump", figures, took / count * 1e6, 50, " µs")


def test_a_long_sleep(table: Table, medians: Medians, timed: Timed) -> None:
    with FrozenClock(0, autojump=True) as clock:
        bare, ours = medians(
            timed(lambda: subprocess.run(["/bin/true"], check=True)),
            timed(lambda: clock.run(["sleep", "100000"], check=True)),
        )
    figures = f"{ours * 1e3:.2f} / {bare * 1e3:.2f} ms"
    table.check(
        "sleep 100000 under autojump, more than true", figures, (ours - bare) * 1e3, 4, " ms"
    )


def test_an_hour_of_deadlines(table: Table, sleeping: Sleeping) -> None:
    with FrozenClock(0) as clock:
        program = clock.popen(sleeping(36_000, 0.1))
        began = time.perf_counter()
        clock.advance(hours=1, seconds=10)
        took = time.perf_counter() - began
        assert program.wait() == 0
    figures = f"{took / 36_000 * 1e6:.0f} µs each"
    table.check("an hour of a 10 Hz loop, advanced", figures, took, 4, " s")


def test_one_deadline(table: Table, medians: Medians, sleeping: Sleeping) -> None:
    with FrozenClock(0) as clock, clock.popen(sleeping(10**6, 1)) as program:
        clock.settle()

        def one() -> float:
            began = time.perf_counter()
            clock.advance(1)
            return time.perf_counter() - began

        (took,) = medians(one, rounds=1000)
        program.kill()
    table.check("one deadline, fired and settled", "", took * 1e6, 500, " µs")


def test_many_who_wait(table: Table, medians: Medians, sleeping: Sleeping) -> None:
    with FrozenClock(0) as clock, ExitStack() as stack:
        for i in range(MANY - 1):
            stack.enter_context(clock.popen(sleeping(1, 10**6 + i)))
        stack.enter_context(clock.popen(sleeping(10**6, 1)))
        clock.settle()

        def one() -> float:
            began = time.perf_counter()
            clock.advance(1)
            return time.perf_counter() - began

        (took,) = medians(one)
        for process in clock.processes:
            subprocess.run(["kill", str(process.pid)], check=True)
    table.check(f"{MANY} processes wait, one is woken", "", took * 1e3, 20, " ms")


def test_a_short_sleep_in_real_time(table: Table, medians: Medians, sleeping: Sleeping) -> None:
    count, seconds = 100, 0.001

    def sleeps(run: Callable[..., object]) -> Callable[[], float]:
        def measure() -> float:
            began = time.perf_counter()
            run(sleeping(count, seconds), check=True)
            many = time.perf_counter() - began
            began = time.perf_counter()
            run(sleeping(0, seconds), check=True)
            return many - (time.perf_counter() - began)

        return measure

    with FrozenClock(0) as clock:
        bare, ours = medians(sleeps(subprocess.run), sleeps(clock.run))
    figures = f"{ours / count * 1e6:.0f} / {bare / count * 1e6:.0f} µs"
    table.check(
        "nanosleep of 1 ms, later than bare", figures, (ours - bare) / count * 1e6, 150, " µs"
    )


@contextmanager
def redis(start: Callable[..., subprocess.Popen[str]], directory: Path, name: str) -> Iterator[str]:
    path = str(directory / name)
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", str(directory)]
    with start(["redis-server", *options], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        while "ready to accept" not in server.stdout.readline():
            pass
        try:
            yield path
        finally:
            server.terminate()


def requests(path: str) -> float:
    """Seconds a request."""
    command = ["redis-benchmark", "-s", path, "-t", "get", "-n", "10000", "--csv"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return 1 / float(output.splitlines()[-1].split(",")[1].strip('"'))


def test_redis(table: Table, medians: Medians, tmp_path: Path) -> None:
    with (
        FrozenClock(0) as clock,
        FrozenClock(0, waits="real") as other,
        redis(subprocess.Popen, tmp_path, "bare") as bare_path,
        redis(clock.popen, tmp_path, "ours") as path,
        redis(other.popen, tmp_path, "real") as real_path,
    ):
        bare, ours, real = medians(
            lambda: requests(bare_path),
            lambda: requests(path),
            lambda: requests(real_path),
        )
    for name, took, bar in (("", ours, 0.7), (", waits='real'", real, 0.95)):
        figures = f"{1 / took:,.0f} / {1 / bare:,.0f} requests a second"
        table.check(f"redis-benchmark GET against bare{name}", figures, took / bare, 1 / bar)
