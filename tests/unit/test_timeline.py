"""Rates and lines: integers in, integers out, no clock and no program; and that they are, within
the nanoseconds that integers cost, what rational numbers make of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import strategies as st

from pytest_vdsotime import timeline
from pytest_vdsotime.timeline import (
    EARLIEST_NS,
    LATEST_NS,
    HostClocks,
    Line,
    LineName,
    Lines,
    Rate,
    initial_lines,
    seconds_to_ns,
)
from pytest_vdsotime.waits import Deadlines, real_wait_ns

Examples = Callable[..., Callable[[Callable[..., None]], None]]

S = 1_000_000_000
DAY = 86_400 * S
MAX_RATE = 1e6

instants = st.integers(EARLIEST_NS, LATEST_NS) | st.sampled_from([EARLIEST_NS, -1, 0, LATEST_NS])
rates = (
    st.floats(0, MAX_RATE)
    | st.integers(0, int(MAX_RATE))
    | st.sampled_from([0, 1, 60, 0.1, 1 / 3, 5e-324, 2.0**-63, 2.0**-64, 2.0**-11, MAX_RATE])
)
hosts = st.integers(0, 2**62)
#: Real time between two acts on a clock; at the highest rate it is 30 years.
pauses = st.integers(0, 1000 * S) | st.sampled_from([0, 1, S - 1, S])


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


@pytest.mark.parametrize("value", [-1, -0.1, math.inf, math.nan, 2.0**63, 1e300, 10**400])
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


# Of any rate, instant and history, against rational numbers.


def test_a_rate_is_the_fraction_below(examples: Examples) -> None:
    """The nearest that the stub can multiply by, and the number itself from 2**-11 on."""

    @examples(rates, count=100)
    def check(value: float) -> None:
        rate = Rate.of(value)
        error = Fraction(value) - Fraction(rate.mult, 2**rate.shift)
        assert 0 <= error < Fraction(1, 2**63)
        assert error == 0 or value < 2**-11
        assert 0 <= rate.mult < 2**64 and 0 <= rate.shift < 64


def test_seconds_are_the_nearest_nanoseconds(examples: Examples) -> None:
    @examples(st.floats(-1e12, 1e12) | st.integers(-(10**12), 10**12), count=100)
    def check(seconds: float) -> None:
        assert seconds_to_ns(seconds, "it") == round(Fraction(seconds) * S)


def test_a_line_is_straight(examples: Examples) -> None:
    @examples(instants, hosts, rates, hosts, count=150)
    def check(base_ns: int, start_ns: int, value: float, host_ns: int) -> None:
        rate = Rate.of(value)
        reading_ns = Line(base_ns, start_ns, rate).at(host_ns)
        way = max(host_ns - start_ns, 0) * Fraction(value)
        if way >= 2**63:
            # As far as 292 years, or where the fraction below is as far.
            assert base_ns + (1 - Fraction(1, 2**10)) * 2**63 <= reading_ns < base_ns + 2**63
        else:
            error = base_ns + way - reading_ns
            assert 0 <= error < 1 + Fraction(max(host_ns - start_ns, 0), 2**63)


class Model:
    """A clock's lines as rational numbers, in nanoseconds."""

    def __init__(self, wall: int, monotonic: int, rates: tuple[float, float]) -> None:
        self.wall, self.monotonic = Fraction(wall), Fraction(monotonic)
        self.rates = Fraction(rates[0]), Fraction(rates[1])

    def pass_by(self, real_ns: int) -> None:
        self.wall += real_ns * self.rates[0]
        self.monotonic += real_ns * self.rates[1]


acts = st.one_of(
    st.tuples(st.sampled_from(["advance", "shift"]), st.integers(0, 400 * DAY)),
    st.tuples(st.just("set"), instants),
    st.tuples(st.just("step"), st.integers(-DAY, DAY)),
    st.tuples(st.just("nudge"), st.integers(0, S)),
    st.tuples(st.just("rate"), rates),
    st.tuples(st.just("look"), st.none()),
)


def acted(lines: Lines, host_ns: int, act: str, by_ns: int, argument: float) -> Lines:
    match act:
        case "advance":
            return lines.advanced(host_ns, by_ns)
        case "shift":
            return lines.shifted(by_ns)
        case "set":
            return lines.moved_to(host_ns, by_ns)
        case "step":
            return lines.stepped(by_ns)
        case "nudge":
            return lines.nudged(host_ns, by_ns)
        case "rate":
            return lines.at_rate(host_ns, Rate.of(argument))
    return lines


def test_any_history_of_a_clock(examples: Examples) -> None:
    """The lines lose less than a nanosecond in each act, and none goes back but the wall line where
    it is set."""
    modes = st.sampled_from(["flow", "freeze", "rate"])
    histories = st.lists(st.tuples(pauses, acts), max_size=12)

    @examples(instants, st.integers(0, 10**15), rates, modes, st.booleans(), histories, count=150)
    def check(
        start_ns: int,
        host_ns: int,
        value: float,
        monotonic: str,
        is_now: bool,
        history: list[tuple[int, tuple[str, float]]],
    ) -> None:
        lines = initial_lines(start_ns, Rate.of(value), monotonic, host_ns, is_now=is_now)
        model = Model(start_ns, host_ns, (value, {"flow": 1, "freeze": 0}.get(monotonic, value)))
        lost = Fraction(0)
        for pause_ns, (act, argument) in history:
            before = lines.wall.at(host_ns), lines.monotonic.at(host_ns)
            host_ns += pause_ns
            model.pass_by(pause_ns)
            lost += 1 + Fraction(pause_ns, 2**63)
            now = lines.wall.at(host_ns), lines.monotonic.at(host_ns)
            assert now[0] >= before[0] and now[1] >= before[1]
            by_ns = int(argument or 0)
            try:
                lines = acted(lines, host_ns, act, by_ns, argument)
            except ValueError:
                assert act == "advance" and not EARLIEST_NS <= now[0] + by_ns <= LATEST_NS
                continue
            is_step = act in ("advance", "shift", "step")
            way = by_ns if is_step else by_ns - now[0] if act == "set" else 0
            carried = by_ns if act in ("advance", "shift", "nudge") else 0
            assert lines.wall.at(host_ns) == now[0] + way
            assert lines.monotonic.at(host_ns) == now[1] + carried
            model.wall = Fraction(by_ns) if act == "set" else model.wall + way
            model.monotonic += carried
            if act == "rate":
                model.rates = (
                    Fraction(argument),
                    Fraction(argument) if monotonic == "rate" else model.rates[1],
                )
            for reading_ns, exact in (
                (lines.wall.at(host_ns), model.wall),
                (lines.monotonic.at(host_ns), model.monotonic),
            ):
                assert 0 <= exact - reading_ns <= lost


class Ends(Deadlines):
    def __init__(self, *deadlines: tuple[LineName, int]) -> None:
        self.deadlines = deadlines


def test_the_kernel_is_given_the_time_that_is_left(examples: Examples) -> None:
    """No wait ends before its deadline, and none more than a nanosecond of its line, and one of
    real time, behind that; or, where the line stands, never."""
    lengths = st.integers(0, 10**18) | st.integers(0, 1000)

    @examples(instants, instants, rates, rates, pauses, lengths, lengths, count=150)
    def check(
        wall_ns: int,
        monotonic_ns: int,
        wall_rate: float,
        monotonic_rate: float,
        pause_ns: int,
        wall_left_ns: int,
        monotonic_left_ns: int,
    ) -> None:
        began_ns = 10**15
        host_ns = began_ns + pause_ns
        lines = Lines(
            Line(wall_ns, began_ns, Rate.of(wall_rate)),
            Line(monotonic_ns, began_ns, Rate.of(monotonic_rate)),
            monotonic_follows_rate=False,
        )
        ends = [
            (LineName.WALL, lines.wall.at(host_ns) + wall_left_ns),
            (LineName.MONOTONIC, lines.monotonic.at(host_ns) + monotonic_left_ns),
        ]
        wait = Ends(*ends)
        assert wait.left_ns(lines, host_ns) == min(wall_left_ns, monotonic_left_ns)
        due_ns = wait.due_ns(lines, host_ns)
        assert due_ns >= host_ns
        if due_ns < 2**63 - 1:
            assert any(lines.line(name).at(due_ns) >= end_ns for name, end_ns in ends)
        if due_ns > host_ns:
            assert all(lines.line(name).at(due_ns - 1) <= end_ns for name, end_ns in ends)

    assert real_wait_ns(Rate.of(0), 1) == 2**63 - 1
    assert real_wait_ns(Rate.of(0), 0) == 0
