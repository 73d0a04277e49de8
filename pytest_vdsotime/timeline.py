"""The two lines of a clock and the clocks that read them: pure integer nanoseconds.

How instants and spans are written is in instants.py.

Only :func:`host_wall_ns` and :meth:`HostClocks.read` read a clock here; everything else takes a
reading of the host's CLOCK_MONOTONIC (`host_ns`). The arithmetic is that of
native_stub/program/vdso.c to the last bit, so that ``clock.time_ns()`` is what a program reads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from operator import index
from typing import NamedTuple

NS_PER_S = 1_000_000_000
CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE = 5, 6  # linux/time.h
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_TICKS = 100  # that may come between two readings in a row, before they are taken as they are


def since_epoch_ns(moment: datetime) -> int:
    """Return an aware datetime as nanoseconds since the epoch, exact."""
    return (moment - EPOCH) // _MICROSECOND * 1000


EARLIEST_NS = since_epoch_ns(datetime.min.replace(tzinfo=UTC))
LATEST_NS = since_epoch_ns(datetime.max.replace(tzinfo=UTC)) + 999


def seconds_to_ns(seconds: float, what: str) -> int:
    """Seconds as nanoseconds, exact for ints and rounded to the nearest for floats.

    Raises:
        ValueError: not finite.
    """
    if isinstance(seconds, float) and not math.isfinite(seconds):
        raise ValueError(f"{what} must be finite, not {seconds!r}")
    numerator, denominator = _ratio(seconds)
    return rounded(numerator * NS_PER_S, denominator)


def delta_to_ns(delta: timedelta) -> int:
    """Return a timedelta as nanoseconds, exact."""
    return delta // _MICROSECOND * 1000


def is_number(value: object) -> bool:
    """Whether it is a float or an integer of any kind, but no bool."""
    return isinstance(value, float) or (hasattr(value, "__index__") and not isinstance(value, bool))


def _ratio(value: float) -> tuple[int, int]:
    """Return what a number is exactly, as numerator and denominator, a power of two."""
    return value.as_integer_ratio() if isinstance(value, float) else (index(value), 1)


def rounded(numerator: int, denominator: int) -> int:
    """Return the nearest integer, of two the even one."""
    found, rest = divmod(numerator, denominator)
    return found + (2 * rest > denominator or (2 * rest == denominator and found % 2 == 1))


def check_range(instant_ns: int, what: object) -> int:
    """Return `instant_ns` if it lies in the years 0001 to 9999, else raises ValueError."""
    if not EARLIEST_NS <= instant_ns <= LATEST_NS:
        raise ValueError(f"{what!r} is outside of the years 0001 to 9999")
    return instant_ns


def now_ns() -> int:
    """Return the host's CLOCK_MONOTONIC, of which every line is a function."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def host_wall_ns(host_ns: int | None = None) -> int:
    """Return the host's CLOCK_REALTIME when its CLOCK_MONOTONIC reads `host_ns`, by default now.

    It is exact: what is between the two is changed by nothing but a step of the wall clock, and two
    coarse clocks of one tick tell it (tk_xtime_coarse, kernel/time/timekeeping.c). And time-machine
    leaves these alone while the Python clock of this process is another.
    """
    tick_ns = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
    for _ in range(_MAX_TICKS):
        former_tick_ns = tick_ns
        wall_ns = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
        tick_ns = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
        if tick_ns == former_tick_ns:
            break
    if host_ns is None:
        host_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return host_ns + wall_ns - tick_ns


def to_datetime(instant_ns: int) -> datetime:
    """Return an instant as an aware UTC datetime.

    Rounded down to its resolution of a microsecond.
    """
    return EPOCH + timedelta(microseconds=instant_ns // 1000)


class Rate(NamedTuple):
    """Seconds of a line per real second, as the stub multiplies: ``mult / 2**shift``."""

    mult: int
    shift: int
    value: float

    @classmethod
    def of(cls, value: float) -> Rate:
        """Return the rate closest to `value`: exact for every float from 2**-11 to 2**63.

        Raises:
            TypeError: not a number.
            ValueError: negative, not finite, or 2**63 and more.
        """
        if not is_number(value):
            raise TypeError(f"a rate is a number, not {value!r}")
        if value < 0 or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"a rate is finite and not negative, not {value!r}")
        if value >= 2.0**63:
            raise ValueError(f"a rate is below 2**63, not {value!r}")
        numerator, denominator = _ratio(value)
        shift = min(denominator.bit_length() - 1, 63)
        return cls((numerator << shift) // denominator, shift, float(value))


_MAX_WAY_NS = 2**63 - 1


class Line(NamedTuple):
    """A straight line over the host's monotonic clock.

    `base_ns` when that clock read `start_ns`, then at `rate`.
    """

    base_ns: int
    start_ns: int
    rate: Rate

    def at(self, host_ns: int) -> int:
        """Return the line's reading.

        Never before its start, and standing still after 292 years of way.
        """
        way = max(host_ns - self.start_ns, 0) * self.rate.mult >> self.rate.shift
        return self.base_ns + min(way, _MAX_WAY_NS)

    @property
    def is_the_hosts(self) -> bool:
        """A monotonic line that nobody has moved."""
        return self.rate.value == 1 and self.base_ns == self.start_ns

    def without_start(self) -> Line:
        """At rate 1 the same line, as one that has gone on since ever.

        A coarse clock reads it at the host's last tick, however soon after the start.
        """
        if self.rate.value != 1:
            return self
        return Line(self.base_ns - self.start_ns, 0, self.rate)

    def rebased(self, host_ns: int, *, by_ns: int = 0, rate: Rate | None = None) -> Line:
        """Return the line that goes on from here without a step, or `by_ns` further on."""
        return Line(self.at(host_ns) + by_ns, host_ns, rate or self.rate)


class LineName(IntEnum):
    """Which line; the value is its index in the shared page."""

    WALL = 0
    MONOTONIC = 1


class Lines(NamedTuple):
    """Both lines of a clock. `monotonic_follows_rate` is monotonic="rate"."""

    wall: Line
    monotonic: Line
    monotonic_follows_rate: bool

    def line(self, name: LineName) -> Line:
        """Return the line of this name."""
        return self.wall if name is LineName.WALL else self.monotonic

    def advanced(self, host_ns: int, by_ns: int) -> Lines:
        """Time passes: both lines move. Raises ValueError beyond the year 9999."""
        wall = self.wall.rebased(host_ns, by_ns=by_ns)
        check_range(wall.base_ns, f"{by_ns / NS_PER_S:.12g} s from now")
        monotonic = self.monotonic.rebased(host_ns, by_ns=by_ns)
        return Lines(wall, monotonic, self.monotonic_follows_rate)

    def shifted(self, by_ns: int) -> Lines:
        """Return the same as `advanced`, whenever it was."""
        wall, monotonic = (
            line._replace(base_ns=line.base_ns + by_ns) for line in (self.wall, self.monotonic)
        )
        return self._replace(wall=wall, monotonic=monotonic)

    def at_rates(self, host_ns: int, wall: Rate, monotonic: Rate) -> Lines:
        """Return both lines, going on from here at these rates, without a step."""
        return self._replace(
            wall=self.wall.rebased(host_ns, rate=wall),
            monotonic=self.monotonic.rebased(host_ns, rate=monotonic),
        )

    def nudged(self, host_ns: int, by_ns: int) -> Lines:
        """Return the monotonic line alone further on."""
        return self._replace(monotonic=self.monotonic.rebased(host_ns, by_ns=by_ns))

    def moved_to(self, host_ns: int, instant_ns: int) -> Lines:
        """Return the lines of a clock that was set: the wall line alone moves."""
        return self._replace(wall=Line(instant_ns, host_ns, self.wall.rate))

    def stepped(self, by_ns: int) -> Lines:
        """Return the clock is set by so much, whenever it is: the wall line alone moves."""
        return self._replace(wall=self.wall._replace(base_ns=self.wall.base_ns + by_ns))

    def at_rate(self, host_ns: int, rate: Rate) -> Lines:
        """Return the wall line changes its rate without a step, the monotonic one if it follows."""
        monotonic = self.monotonic
        if self.monotonic_follows_rate:
            monotonic = monotonic.rebased(host_ns, rate=rate)
        return self._replace(wall=self.wall.rebased(host_ns, rate=rate), monotonic=monotonic)


class ClockRow(NamedTuple):
    """One clock id that reads a line; `host_offset_ns` is how far from its line the host has it."""

    name: str
    line: LineName
    host_offset_ns: Callable[[int], int]
    is_coarse: bool = False
    """It goes on with the kernel's ticks."""

    @property
    def host_id(self) -> int:
        """The clock of the host by which the line is read."""
        return CLOCK_MONOTONIC_COARSE if self.is_coarse else time.CLOCK_MONOTONIC


def _none(_clock_id: int) -> int:
    return 0


def _from_monotonic(clock_id: int) -> int:
    return time.clock_gettime_ns(clock_id) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def _whole_seconds_from_realtime(clock_id: int) -> int:
    # The TAI offset is a whole number of seconds (adjtimex(2)); two readings are never at one
    # instant.
    distance_ns = time.clock_gettime_ns(clock_id) - host_wall_ns()
    return (distance_ns + NS_PER_S // 2) // NS_PER_S * NS_PER_S


#: Every clock id that reads a line (linux/time.h). Ids that are not here are the kernel's to
#: answer. Alarm clocks equal the clock they are a variant of. Coarse ones are at the kernel's last
#: tick, as its stamps of files are, and so equal it on a line that stands still.
CLOCKS: Mapping[int, ClockRow] = {
    0: ClockRow("CLOCK_REALTIME", LineName.WALL, _none),
    1: ClockRow("CLOCK_MONOTONIC", LineName.MONOTONIC, _none),
    4: ClockRow("CLOCK_MONOTONIC_RAW", LineName.MONOTONIC, _from_monotonic),
    5: ClockRow("CLOCK_REALTIME_COARSE", LineName.WALL, _none, is_coarse=True),
    6: ClockRow("CLOCK_MONOTONIC_COARSE", LineName.MONOTONIC, _none, is_coarse=True),
    7: ClockRow("CLOCK_BOOTTIME", LineName.MONOTONIC, _from_monotonic),
    8: ClockRow("CLOCK_REALTIME_ALARM", LineName.WALL, _none),
    9: ClockRow("CLOCK_BOOTTIME_ALARM", LineName.MONOTONIC, lambda _: _from_monotonic(7)),
    11: ClockRow("CLOCK_TAI", LineName.WALL, _whole_seconds_from_realtime),
}


class TimeOffsets(NamedTuple):
    """How far the clocks of a time namespace are ahead of this process's (time_namespaces(7))."""

    monotonic_ns: int = 0
    boottime_ns: int = 0

    def of(self, clock_id: int) -> int:
        """Of a row of CLOCKS, in nanoseconds."""
        if CLOCKS[clock_id].line is LineName.WALL:
            return 0
        return self.boottime_ns if clock_id in _BOOTTIME_IDS else self.monotonic_ns


_BOOTTIME_IDS = 7, 9
NO_OFFSETS = TimeOffsets()


@dataclass(frozen=True, slots=True)
class HostClocks:
    """The rows of CLOCKS that this host serves, with their offsets from their lines."""

    offsets_ns: Mapping[int, int]

    @classmethod
    def read(cls) -> HostClocks:
        """Asks the host for every row.

        An id that it refuses (an alarm clock without a real-time-clock device, timer_create(2))
        stays refused.
        """
        offsets_ns = {}
        for clock_id, row in CLOCKS.items():
            try:
                time.clock_gettime_ns(clock_id)
            except OSError:
                continue
            offsets_ns[clock_id] = row.host_offset_ns(clock_id)
        return cls(offsets_ns)


#: Of the monotonic line; else it is the wall line's.
_RATES = {"flow": Rate.of(1), "freeze": Rate.of(0)}


def initial_lines(
    start_ns: int, rate: Rate, monotonic: str, host_ns: int, *, is_now: bool = False
) -> Lines:
    """Return the lines of a new clock.

    The monotonic one continues from the host's own value, and so does the wall line if `start_ns`
    is that (`is_now`).
    """
    wall = Line(start_ns, host_ns, rate)
    return Lines(
        wall.without_start() if is_now else wall,
        Line(host_ns, host_ns, _RATES.get(monotonic, rate)).without_start(),
        monotonic == "rate",
    )
