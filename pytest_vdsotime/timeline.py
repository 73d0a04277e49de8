"""The two lines of a clock, the clocks that read them, and instants: pure integer nanoseconds.

Only :func:`host_wall_ns` and :meth:`HostClocks.read` read a clock here; everything else takes a
reading of the host's CLOCK_MONOTONIC (`host_ns`). The arithmetic is that of
native_stub/program/vdso.c to the last bit, so that ``clock.time_ns()`` is what a program reads.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from operator import index
from typing import NamedTuple, TypeAlias, TypedDict

NS_PER_S = 1_000_000_000
CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE = 5, 6  # linux/time.h
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_TICKS = 100  # that may come between two readings in a row, before they are taken as they are

#: What `start` and `move_to` take.
Instant: TypeAlias = str | datetime | date | int | float | timedelta | None

#: What `advance`, `jump` and `stride` take.
Span: TypeAlias = str | timedelta | float


class TimedeltaKeywords(TypedDict, total=False):
    """Of `datetime.timedelta`."""

    days: float
    seconds: float
    microseconds: float
    milliseconds: float
    minutes: float
    hours: float
    weeks: float


_TEXTS = (
    "ISO 8601 ('2038-01-19T03:14:07Z', '1970-01-01'), '@SECONDS' since the epoch, or a span from "
    "now ('-15d', '+1h30m', '2 days ago', 'in 3 weeks')"
)
ACCEPTED_INSTANTS = (
    f"a string in {_TEXTS}, a datetime (naive is UTC), a date, an int or float of seconds since "
    "the epoch, a timedelta from now, or None for now"
)
_SPAN_TEXTS = "a span such as '1h30m', '90s' or '2 days', or seconds"
ACCEPTED_SPANS = f"{_SPAN_TEXTS}, or a timedelta"

_NS_PER_DAY = 86_400 * NS_PER_S
_UNITS = {
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1),
    **dict.fromkeys(("us", "µs", "microsecond", "microseconds"), 1000),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 10**6),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), NS_PER_S),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60 * NS_PER_S),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600 * NS_PER_S),
    **dict.fromkeys(("d", "day", "days"), _NS_PER_DAY),
    **dict.fromkeys(("w", "wk", "week", "weeks"), 7 * _NS_PER_DAY),
}
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+) *([a-zµ]+)(?: *, *| +and +| *)", re.ASCII)
#: A leap second: what is before it, and behind.
_SECOND_60 = re.compile(r"(.*[T ]\d\d(:?)\d\d\2)60((?:[.,]\d+)? *(?:Z|[+-][\d:]+)?)", re.ASCII)
_SPAN = re.compile(r" *(?:(in +)|([+-]) *)?(.*?)( +ago)? *")


def _since_epoch_ns(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND * 1000


EARLIEST_NS = _since_epoch_ns(datetime.min.replace(tzinfo=UTC))
LATEST_NS = _since_epoch_ns(datetime.max.replace(tzinfo=UTC)) + 999


def seconds_to_ns(seconds: float, what: str) -> int:
    """Seconds as nanoseconds, exact for ints and rounded to the nearest for floats.

    Raises:
        ValueError: not finite.
    """
    if not math.isfinite(seconds):
        raise ValueError(f"{what} must be finite, not {seconds!r}")
    numerator, denominator = _ratio(seconds)
    return _rounded(numerator * NS_PER_S, denominator)


def delta_to_ns(delta: timedelta) -> int:
    """Return a timedelta as nanoseconds, exact."""
    return delta // _MICROSECOND * 1000


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (hasattr(value, "__index__") and not isinstance(value, bool))


def _ratio(value: float) -> tuple[int, int]:
    """Return what a number is exactly, as numerator and denominator, a power of two."""
    return value.as_integer_ratio() if isinstance(value, float) else (index(value), 1)


def _rounded(numerator: int, denominator: int) -> int:
    """Return the nearest integer, of two the even one."""
    found, rest = divmod(numerator, denominator)
    return found + (2 * rest > denominator or (2 * rest == denominator and found % 2 == 1))


def check_range(instant_ns: int, what: object) -> int:
    """Return `instant_ns` if it lies in the years 0001 to 9999, else raises ValueError."""
    if not EARLIEST_NS <= instant_ns <= LATEST_NS:
        raise ValueError(f"{what!r} is outside of the years 0001 to 9999")
    return instant_ns


@lru_cache
def parse_span(text: str) -> int | None:
    """Return a span such as ``-15d``, ``+1h30m``, ``2 days ago``, ``in 3 weeks``, in nanoseconds.

    None where the text is none: a number needs its unit. Months and years, whose length differs,
    are no units.
    """
    match = _SPAN.fullmatch(text)
    if match is None:
        return None
    is_coming, sign, amounts, is_past = match.groups()
    if (is_coming or sign) and is_past:
        return None
    total, parts, at = 0, 1, 0  # a total of so many parts of a nanosecond
    while at < len(amounts):
        amount = _AMOUNT.match(amounts, at)
        if amount is None or amount[2] not in _UNITS:
            return None
        whole, _, decimals = amount[1].partition(".")
        smaller = 10 ** len(decimals)
        total = total * smaller + int(whole + decimals) * _UNITS[amount[2]] * parts
        parts, at = parts * smaller, amount.end()
    if not at:
        return None
    return _rounded(-total if is_past or sign == "-" else total, parts)


def _parse_text(text: str, now_ns: int | None) -> int:
    if text.startswith("@"):
        with suppress(ValueError):
            return int(text[1:]) * NS_PER_S
        from fractions import Fraction

        try:
            return round(Fraction(text[1:]) * NS_PER_S)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{text!r} is not an instant; use {_TEXTS}") from None
    span_ns = parse_span(text)
    if span_ns is not None:
        return span_ns + (host_wall_ns() if now_ns is None else now_ns)
    return _parse_iso(text)


@lru_cache
def _parse_iso(text: str) -> int:
    # POSIX's "Seconds Since the Epoch" has no leap seconds: 23:59:60 is the next minute's first.
    leap = _SECOND_60.fullmatch(text)
    try:
        moment = datetime.fromisoformat(f"{leap[1]}59{leap[3]}" if leap else text)
    except ValueError as error:
        why = "" if str(error).startswith("Invalid isoformat") else f" ({error})"
        raise ValueError(f"{text!r} is not an instant{why}; use {_TEXTS}") from None
    instant_ns = _since_epoch_ns(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return instant_ns + NS_PER_S if leap else instant_ns


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


def parse_instant(when: Instant, now_ns: int | None = None) -> int:
    """Return an instant in any accepted form, as nanoseconds since the epoch.

    `now_ns` is what None, a timedelta and a span count from; by default the host's CLOCK_REALTIME.

    Raises:
        TypeError: not one of the accepted forms.
        ValueError: one of them, but no instant from 0001 to 9999; the text names the forms.
    """
    if when is None or isinstance(when, timedelta):
        start_ns = host_wall_ns() if now_ns is None else now_ns
        instant_ns = start_ns if when is None else start_ns + delta_to_ns(when)
    elif isinstance(when, str):
        instant_ns = _parse_text(when, now_ns)
    elif isinstance(when, datetime):
        instant_ns = _since_epoch_ns(when if when.tzinfo else when.replace(tzinfo=UTC))
    elif isinstance(when, date):
        instant_ns = _since_epoch_ns(datetime(when.year, when.month, when.day, tzinfo=UTC))
    elif _is_number(when):
        instant_ns = seconds_to_ns(when, "an instant")
    else:
        raise TypeError(f"{when!r} is not an instant; use {ACCEPTED_INSTANTS}")
    return check_range(instant_ns, when)


def span_to_ns(span: Span, what: str) -> int:
    """Return a span of time in any accepted form, as nanoseconds.

    Raises:
        TypeError, ValueError: it is none, or not finite; the text says `what` it was to be.
    """
    span_ns: int | None = None
    if isinstance(span, timedelta):
        span_ns = delta_to_ns(span)
    elif isinstance(span, str):
        span_ns = parse_span(span)
        if span_ns is None:
            try:
                span_ns = seconds_to_ns(float(span), what)
            except ValueError:
                raise ValueError(f"{what} is {_SPAN_TEXTS}, not {span!r}") from None
    elif _is_number(span):
        span_ns = seconds_to_ns(span, what)
    if span_ns is None:
        raise TypeError(f"{what} is {ACCEPTED_SPANS}, not {span!r}")
    return span_ns


def parse_delta(delta: Span | None, keywords: TimedeltaKeywords) -> int:
    """Return a span of time from `advance(delta)` or `advance(hours=1)`, as nanoseconds.

    Raises:
        TypeError: both, neither, or an unknown keyword, with the one that was perhaps meant.
        ValueError: negative or not finite.
    """
    known = TimedeltaKeywords.__annotations__
    for name in keywords.keys() - known.keys():
        from difflib import get_close_matches

        meant = get_close_matches(name, known, 1)
        hint = f" (did you mean {meant[0]!r}?)" if meant else ""
        raise TypeError(f"there is no keyword {name!r}{hint}; there are {', '.join(known)}")
    if (delta is None) == (not keywords):
        raise TypeError(
            f"give either a delta ({ACCEPTED_SPANS}) or keywords of timedelta, such as hours=1"
        )
    if delta is None:
        for name, value in keywords.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be finite, not {value!r}")
        delta = timedelta(**keywords)
    span_ns = span_to_ns(delta, "a delta")
    if span_ns < 0:
        raise ValueError(
            f"time does not pass backwards: {delta!r} is negative; move_to() sets the clock back"
        )
    return span_ns


def parse_stride(stride: Span | None) -> int | None:
    """Return how finely time passes, as nanoseconds; None: from deadline to deadline.

    Raises:
        TypeError, ValueError: no span of time, or none of some length.
    """
    if stride is None:
        return None
    stride_ns = span_to_ns(stride, "stride")
    if stride_ns <= 0:
        raise ValueError(f"stride is a span of time of some length, not {stride!r}")
    return stride_ns


def to_datetime(instant_ns: int) -> datetime:
    """Return an instant as an aware UTC datetime.

    Rounded down to its resolution of a microsecond.
    """
    return EPOCH + timedelta(microseconds=instant_ns // 1000)


def format_instant(instant_ns: int) -> str:
    """Return an instant as ISO 8601 in UTC, such as ``1970-01-01T00:00:00Z``.

    One in a year that has no such name, as a deadline may be, as ``@SECONDS`` since the epoch.
    """
    if not EARLIEST_NS <= instant_ns <= LATEST_NS:
        return f"@{instant_ns // NS_PER_S}"
    return to_datetime(instant_ns).isoformat().replace("+00:00", "Z")


def format_span(span_ns: int) -> str:
    """Return a span as text, such as ``2 d``, ``5 min 4 s``, ``1.5 s``, ``20 ms``.

    From a second on to the millisecond, below to the nanosecond.
    """
    sign, span_ns = "-" if span_ns < 0 else "", abs(span_ns)
    if span_ns < 1000:
        return f"{sign}{span_ns} ns" if span_ns else "0 s"
    if span_ns < 1_000_000:
        return f"{sign}{span_ns / 1000:.12g} µs"
    milliseconds = round(span_ns / 1_000_000)
    if milliseconds < 1000:
        return f"{sign}{span_ns / 1_000_000:.12g} ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (milliseconds / 1000, "s"))
    return sign + " ".join(f"{number:.12g} {unit}" for number, unit in parts if number)


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
        if not _is_number(value):
            raise TypeError(f"a rate is a number, not {value!r}")
        if not math.isfinite(value) or value < 0:
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
        check_range(wall.base_ns, timedelta(microseconds=by_ns // 1000))
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
