"""What a deadline costs: of loops of waits of every form, beside many who wait, of idle servers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from subprocess import PIPE
from typing import TYPE_CHECKING, BinaryIO

import pytest

from pytest_vdsotime import FrozenClock
from tests.real.test_month import (  # noqa: F401  (the fixtures)
    clock,
    java,
    monotonic,
    redis,
    start,
)

if TYPE_CHECKING:
    from conftest import Builder
    from tests.benchmarks.conftest import Table
    from tests.conftest import Postgres

LOOPS = (
    *("nanosleep", "nanosleep-until", "poll", "ppoll", "select", "epoll_wait", "futex"),
    *("futex-until", "futex_waitv", "sigtimedwait", "semtimedop", "mq_timedreceive"),
    *("timerfd", "timerfd+epoll"),
)
#: Those that the kernel has to wait in: it alone can tell whether there is something.
IN_KERNEL = {"semtimedop", "mq_timedreceive", "futex_waitv"}
PERIOD_US, HOUR = 100_000, 36_000


def loop(build: Builder, kind: str, count: int) -> list[str]:
    return [build.c("helpers/loop_of"), kind, str(PERIOD_US), str(count)]


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_under_autojump(kind: str, build: Builder, table: Table) -> None:
    """The time that the program takes to start is taken off."""

    def run(count: int) -> float:
        with FrozenClock(0, autojump=True) as own:
            return seconds(lambda: own.run(loop(build, kind, count), check=True, stdout=PIPE))

    took = min(run(20_001) for _ in range(3)) - min(run(1) for _ in range(3))
    a_second = 20_000 / took
    bar_us = 1e6 / (10_000 if kind in IN_KERNEL else 20_000)
    what = f"a wait under autojump: {kind}"
    table.check(what, f"{a_second:,.0f} a second", 1e6 / a_second, bar_us, " µs")


@pytest.mark.parametrize("kind", LOOPS)
def test_an_hour_of_a_loop(kind: str, build: Builder, table: Table) -> None:
    """Ten deadlines a second."""
    with FrozenClock(0) as own, own.popen(loop(build, kind, 10**9), stdout=PIPE) as program:
        own.settle()
        took = seconds(lambda: own.advance(hours=1))
        program.kill()
    bar_s = 4 if kind in IN_KERNEL else 2
    table.check(f"an hour of a 10 Hz loop: {kind}", f"{took:.2f} s", took, bar_s, " s")


@pytest.mark.parametrize(("others", "bar_ms"), [("500 processes", 2), ("1000 threads", 3)])
def test_one_deadline_beside_many(others: str, bar_ms: float, build: Builder, table: Table) -> None:
    """Each of the others sleeps for long."""
    count, kind = others.split()
    with FrozenClock(0) as own, ExitStack() as stack:
        if kind == "threads":
            idle = [build.c("helpers/many_sleepers"), count]
            stack.enter_context(own.popen(idle, stdin=PIPE, stdout=PIPE))
        else:
            for _ in range(int(count)):
                stack.enter_context(own.popen(["sleep", "1000000"]))
        stack.enter_context(own.popen(loop(build, "poll", 10**9), stdout=PIPE))
        own.settle()
        own.advance(1)
        rounds = 100
        took = seconds(lambda: own.advance(rounds * PERIOD_US / 1e6)) / rounds
        for process in own.processes:
            subprocess.run(["kill", str(process.pid)], check=True)
    table.check(f"one deadline beside {others}", "", took * 1e3, bar_ms, " ms")


@pytest.mark.timeout(300)
def test_an_hour_of_redis(
    monotonic: str,  # noqa: F811
    clock: FrozenClock,  # noqa: F811
    redis: BinaryIO,  # noqa: F811
    table: Table,
) -> None:
    took = min(seconds(lambda: clock.advance(hours=1)) for _ in range(2))
    table.check(f"an hour of redis-server ({monotonic})", f"{took:.2f} s", took, 5, " s")


@pytest.mark.timeout(300)
def test_an_hour_of_java(
    monotonic: str,  # noqa: F811
    clock: FrozenClock,  # noqa: F811
    java: subprocess.Popen[str],  # noqa: F811
    table: Table,
) -> None:
    took = min(seconds(lambda: clock.advance(hours=1)) for _ in range(2))
    table.check(f"an hour of an idle JVM ({monotonic})", f"{took:.2f} s", took, 15, " s")


@pytest.mark.timeout(300)
def test_a_day_of_postgres(
    monotonic: str,  # noqa: F811
    clock: FrozenClock,  # noqa: F811
    start_postgres: Callable[[FrozenClock], Postgres],
    table: Table,
) -> None:
    """Its writers wake each 0.2 and 10 s."""
    server = start_postgres(clock)
    clock.settle()
    took = seconds(lambda: clock.advance(days=1))
    server.close()
    table.check(f"a day of an idle PostgreSQL ({monotonic})", f"{took:.1f} s", took, 29, " s")
