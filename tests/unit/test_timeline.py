"""Rates and lines: integers in, integers out, no clock and no program."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

import pytest

from pytest_vdsotime import timeline
from pytest_vdsotime.timeline import LATEST_NS, HostClocks, Line, Rate, initial_lines

S = 1_000_000_000


def test_the_hosts_wall_clock_is_known_to_the_nanosecond() -> None:
    """A clock from now on at rate 1 is the host's: no file may be older than its coarse clock."""
    for _ in range(1000):
        host_ns, wall_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.time_ns()
        assert timeline.host_wall_ns(host_ns) <= wall_ns
        wall_ns, host_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        assert timeline.host_wall_ns(host_ns) >= wall_ns
        tick_ns = time.clock_gettime_ns(timeline.CLOCK_MONOTONIC_COARSE)
        wall_tick_ns = time.clock_gettime_ns(timeline.CLOCK_REALTIME_COARSE)
        if tick_ns == time.clock_gettime_ns(timeline.CLOCK_MONOTONIC_COARSE):
            assert timeline.host_wall_ns(tick_ns) == wall_tick_ns


@pytest.mark.parametrize("value", [0, 1, 60, 0.1, 1 / 3, 2.0**-11, 1e9, 2.0**62])
def test_rates_are_exact_fractions(value: float) -> None:
    rate = Rate.of(value)
    assert rate.mult / 2**rate.shift == value
    assert 0 <= rate.mult < 2**64
    assert 0 <= rate.shift < 64


@pytest.mark.parametrize("value", [-1, -0.1, math.inf, math.nan, 2.0**63, 1e300])
def test_impossible_rates(value: float) -> None:
    with pytest.raises(ValueError):
        Rate.of(value)


def test_a_rate_is_a_number() -> None:
    with pytest.raises(TypeError):
        Rate.of("1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Rate.of(True)


def test_a_line_moves_at_its_rate_from_its_start() -> None:
    line = Line(base_ns=100, start_ns=1000, rate=Rate.of(60))
    assert line.at(1000) == 100
    assert line.at(1001) == 160
    assert line.at(999) == 100  # a reader that sampled the host just before the start


def test_a_fast_line_stops_after_292_years_instead_of_wrapping() -> None:
    line = Line(base_ns=0, start_ns=0, rate=Rate.of(2.0**62))
    assert line.at(10) == line.at(11) == 2**63 - 1


def test_a_changed_rate_makes_no_step() -> None:
    lines = initial_lines(0, Rate.of(60), "flow", host_ns=1000)
    slower = lines.at_rate(2000, Rate.of(0.1))
    assert slower.wall.at(2000) == lines.wall.at(2000)
    assert slower.wall.at(12_000) == lines.wall.at(2000) + 1000


@pytest.mark.parametrize(("monotonic", "after"), [("flow", 1000), ("freeze", 0), ("rate", 60_000)])
def test_the_monotonic_line_continues_from_the_host(monotonic: str, after: int) -> None:
    lines = initial_lines(0, Rate.of(60), monotonic, host_ns=5000)
    assert lines.monotonic.at(5000) == 5000
    assert lines.monotonic.at(6000) == 5000 + after
    changed = lines.at_rate(6000, Rate.of(0))
    assert changed.monotonic.at(7000) - changed.monotonic.at(6000) == (
        0 if monotonic == "rate" else after
    )


def test_a_line_that_is_the_hosts_was_so_at_its_last_tick() -> None:
    """Where coarse clocks read it. Another begins at its start."""
    for rate, monotonic in ((1, "flow"), (1, "rate"), (60, "flow")):
        lines = initial_lines(100, Rate.of(rate), monotonic, host_ns=5000, is_now=True)
        assert lines.wall.at(5001) == 100 + rate
        assert lines.wall.at(4990) == (90 if rate == 1 else 100)
        assert (lines.monotonic.at(4990), lines.monotonic.at(5001)) == (4990, 5001)
        assert lines.monotonic.is_the_hosts
    lines = initial_lines(100, Rate.of(1), "freeze", host_ns=5000)
    assert (lines.wall.at(4990), lines.wall.at(5001)) == (100, 101)
    assert lines.monotonic.at(4990) == lines.monotonic.at(5001) == 5000


def test_advance_moves_both_lines_and_move_to_the_wall_only() -> None:
    lines = initial_lines(0, Rate.of(0), "flow", host_ns=0)
    advanced = lines.advanced(10, 5 * S)
    assert advanced.wall.at(10) == 5 * S
    assert advanced.monotonic.at(10) == 10 + 5 * S
    moved = advanced.moved_to(20, -7)
    assert moved.wall.at(20) == -7
    assert moved.monotonic.at(20) == advanced.monotonic.at(20)


def test_time_does_not_pass_beyond_9999() -> None:
    lines = initial_lines(LATEST_NS, Rate.of(0), "flow", host_ns=0)
    with pytest.raises(ValueError, match="9999"):
        lines.advanced(0, S)


def test_host_offsets() -> None:
    offsets = HostClocks.read().offsets_ns
    assert offsets[time.CLOCK_REALTIME] == offsets[time.CLOCK_MONOTONIC] == 0
    assert offsets[time.CLOCK_TAI] % S == 0
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert abs(offsets[time.CLOCK_BOOTTIME] - boot) < S


def test_now_rounds_down_to_microseconds() -> None:
    assert timeline.to_datetime(1999) == datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert timeline.to_datetime(-1) == datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
