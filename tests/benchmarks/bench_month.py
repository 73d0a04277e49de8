"""A month of servers in a moment: redis, a JVM, PostgreSQL, Erlang and MariaDB on one clock."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.real.test_month import (  # noqa: F401  (the fixtures)
    check,
    clock,
    erlang,
    java,
    mariadb,
    monotonic,
    redis,
    start,
    tell,
)

if TYPE_CHECKING:
    from pytest_vdsotime import FrozenClock
    from tests.benchmarks.conftest import Table

SERVERS = "redis, a JVM, PostgreSQL, Erlang and MariaDB"


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@pytest.mark.timeout(300)
@pytest.mark.parametrize("monotonic", ["flow"])
def test_a_month(
    clock: FrozenClock,  # noqa: F811
    check: Callable[[int], None],  # noqa: F811
    table: Table,
) -> None:
    check(0)
    jump_s = seconds(lambda: clock.jump(days=30))
    table.check(f"jump(days=30) of {SERVERS}", f"{jump_s:.2f} s", jump_s, 1, " s")
    strides_s = seconds(lambda: clock.advance(days=30, stride="1h"))
    what = f'advance(days=30, stride="1h") of {SERVERS}'
    table.check(what, f"{strides_s:.1f} s", strides_s, 20, " s")


HOURS: dict[str, float] = {}


@pytest.mark.timeout(300)
def test_an_hour_of_erlang(
    monotonic: str,  # noqa: F811
    clock: FrozenClock,  # noqa: F811
    erlang: subprocess.Popen[str],  # noqa: F811
    table: Table,
) -> None:
    HOURS[monotonic] = min(seconds(lambda: clock.advance(hours=1)) for _ in range(3))
    if len(HOURS) == 2:
        flow_s, freeze_s = HOURS["flow"], HOURS["freeze"]
        figures = f"{flow_s:.2f} / {freeze_s:.2f} s"
        table.check(
            "an hour of Erlang, default world, against frozen", figures, flow_s / freeze_s, 1.2
        )
