"""Instants and spans as people write them: the one grammar, for Python, ini files and shells.

docs/instants.md is its page. What can be read in two ways is refused, with a word on how to write
it; a text is never guessed at, and means the same in every version of Python and every locale.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias, TypedDict

from pytest_vdsotime.timeline import (
    EARLIEST_NS,
    LATEST_NS,
    NS_PER_S,
    check_range,
    delta_to_ns,
    host_wall_ns,
    is_number,
    rounded,
    seconds_to_ns,
    since_epoch_ns,
    to_datetime,
)

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


_INSTANT_TEXTS = (
    "ISO 8601 ('2038-01-19T03:14:07Z', '1970-01-01'), '@SECONDS' since the epoch, a span from now "
    "('-15d', '+1h30m', '2 days ago', 'in 3 weeks'), a day near now ('yesterday 17:00', 'tomorrow "
    "noon', in UTC) or 'now'"
)
_ACCEPTED_INSTANTS = (
    f"a string in {_INSTANT_TEXTS}, a datetime (naive is UTC), a date, an int or float of seconds "
    "since the epoch, a timedelta from now, or None for now"
)
_SPAN_TEXTS = "a span such as '1h30m', '90s' or '2 days', or seconds"
_ACCEPTED_SPANS = f"{_SPAN_TEXTS}, or a timedelta"

_NS_PER_DAY: Final = 86_400 * NS_PER_S
#: Characters of a text. Expressions below look at some parts of one again and again.
_MAX_TEXT: Final = 1000
_MAX_SPAN_NS: Final = delta_to_ns(timedelta.max)
_UNITS: Final = {
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1),
    # Both characters that look so: the micro sign and the Greek letter.
    **dict.fromkeys(("us", "\u00b5s", "\u03bcs", "microsecond", "microseconds"), 1000),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 10**6),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), NS_PER_S),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60 * NS_PER_S),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600 * NS_PER_S),
    **dict.fromkeys(("d", "day", "days"), _NS_PER_DAY),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), 7 * _NS_PER_DAY),
}
_DAYS: Final = {"yesterday": -1, "today": 0, "tomorrow": 1}

_NUMBER = r"(?:\d{1,20}(?:\.\d{1,20})?|\.\d{1,20})"
_SECONDS = re.compile(rf"[+-]?{_NUMBER}", re.ASCII)
#: One amount of several, and what stands before it.
_AMOUNT = re.compile(rf"(?: *, *| +and +| *)({_NUMBER}) *([a-z\u00b5\u03bc]+)", re.ASCII)
_FROM_NOW = re.compile(r"(?:(in +)|([+-]) *)?(.+?)( +ago)?")
_FRACTION = r"[.,]\d{1,20}"
_ISO = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d(?:-?\d)?)"
    rf"(?:(?:[Tt]| +)(?P<time>(?:[01]\d|2[0-3])(?P<colon>:?)[0-5]\d)"
    rf"(?:(?P=colon)(?P<second>[0-5]\d|60)(?P<fraction>{_FRACTION})?)?"
    r" *(?P<zone>[Zz]|UTC|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?)?",
    re.ASCII,
)
_NEAR = re.compile(
    rf"({'|'.join(_DAYS)}) +"
    rf"(?:noon|(\d|[01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:{_FRACTION})?))?) *(?:[Zz]|UTC)?",
    re.ASCII,
)

#: What is not understood although it is common, and how it is written.
_MONTHS = re.compile(r".*\d *(?:months?|mos?|years?|yrs?|y|M|Y)\b.*", re.ASCII)
_OF_MONTHS: Final = "months and years differ in length: write days, weeks or a date"
_REMARKS: Final = (
    (r"(?!\d{4}-\d\d-\d\d)\d{1,4}[-/.]\d\d?[-/.]\d{1,4}\b.*", "write year-month-day: '2030-04-03'"),
    (_MONTHS.pattern, _OF_MONTHS),
    (r"[+-]?[\d.]+", "seconds since the epoch: '@90', a span: '+90s'"),
    (r"@.*[^\d.+-].*", "behind @ comes a number of seconds"),
    ("|".join(_DAYS), "at which time of the day? 'yesterday 17:00', 'tomorrow 00:00'"),
    (r".*\bmidnight", "at which end of the day? 'today 00:00', 'tomorrow 00:00'"),
    (r"\d\d?(?::\d\d)+|noon", "of which day? 'today 17:00', 'tomorrow noon'"),
)


def parse_instant(when: Instant, now_ns: int | None = None) -> int:
    """Return an instant in any accepted form, as nanoseconds since the epoch.

    `now_ns` is what None, a timedelta and a text about now count from; by default the host's
    CLOCK_REALTIME.

    Raises:
        TypeError: not one of the accepted forms.
        ValueError: one of them, but no instant from 0001 to 9999; the text names the forms.
    """
    if now_ns is None:
        now_ns = host_wall_ns()
    if when is None:
        instant_ns = now_ns
    elif isinstance(when, timedelta):
        instant_ns = now_ns + delta_to_ns(when)
    elif isinstance(when, str):
        instant_ns = _text_to_ns(when, now_ns)
    elif isinstance(when, datetime):
        instant_ns = since_epoch_ns(when if when.tzinfo else when.replace(tzinfo=UTC))
    elif isinstance(when, date):
        instant_ns = since_epoch_ns(datetime(when.year, when.month, when.day, tzinfo=UTC))
    elif is_number(when):
        instant_ns = seconds_to_ns(when, "an instant")
    else:
        raise TypeError(f"{when!r} is not an instant; use {_ACCEPTED_INSTANTS}")
    return check_range(instant_ns, when)


def _text_to_ns(text: str, now_ns: int) -> int:
    told = text.strip(" ")
    if len(told) > _MAX_TEXT:
        raise _no_instant(text, "")
    if told == "now":
        return now_ns
    if told.startswith("@") and _SECONDS.fullmatch(told, 1):
        return _decimal_to_ns(told[1:])
    if near := _NEAR.fullmatch(told):
        day, hour, minute, second = near.groups(default="0")
        clock_s = 3600 * int(hour) + 60 * int(minute) if near[2] else 12 * 3600
        ns = _decimal_to_ns(second)
        return (now_ns // _NS_PER_DAY + _DAYS[day]) * _NS_PER_DAY + clock_s * NS_PER_S + ns
    if iso := _ISO.fullmatch(told):
        return _iso_to_ns(iso, text)
    span_ns = _from_now_to_ns(told)
    if span_ns is None:
        remarks = (remark for form, remark in _REMARKS if re.fullmatch(form, told, re.ASCII))
        raise _no_instant(text, next(remarks, ""))
    if told[0] in "0123456789." and not told.endswith(" ago"):
        raise _no_instant(text, f"which way? '+{told}', '{told} ago'")
    return now_ns + span_ns


def _iso_to_ns(iso: re.Match[str], text: str) -> int:
    """Return an instant in ISO 8601, exact, where `datetime` has microseconds."""
    clock, colon, second, zone = (iso[one] or "" for one in ("time", "colon", "second", "zone"))
    offset = "+00" if zone.upper() in ("", "Z", "UTC") else zone
    # POSIX's "Seconds Since the Epoch" has no leap seconds: 23:59:60 is the next minute's first.
    seconds = f"{colon}{'59' if second == '60' else second or '00'}"
    try:
        day = datetime.fromisoformat(iso["date"]).date()
        moment = datetime.fromisoformat(f"{day}T{clock or f'00{colon}00'}{seconds}{offset}")
    except ValueError as error:
        known = "" if str(error).startswith("Invalid isoformat") else str(error)
        raise _no_instant(text, known) from None
    leap_ns = NS_PER_S * (second == "60")
    return since_epoch_ns(moment) + _decimal_to_ns(iso["fraction"] or "0") + leap_ns


def _no_instant(text: str, remark: str) -> ValueError:
    about = f" ({remark})" if remark else ""
    return ValueError(f"{text!r} is not an instant{about}; use {_INSTANT_TEXTS}")


def _from_now_to_ns(text: str) -> int | None:
    """Return a span such as ``-15d``, ``+1h30m``, ``2 days ago``, ``in 3 weeks``, in nanoseconds.

    None where the text is none: a number needs its unit. Months and years, whose length differs,
    are no units.
    """
    match = _FROM_NOW.fullmatch(text)
    if match is None:
        return None
    is_coming, sign, amounts, is_past = match.groups()
    if (is_coming or sign) and is_past:
        return None
    total, parts, at = 0, 1, 0  # a total of so many parts of a nanosecond
    while at < len(amounts):
        amount = _AMOUNT.match(amounts, at)
        if amount is None or amount[2] not in _UNITS or (not at and amount.start(1)):
            return None
        number, smaller = _ratio(amount[1])
        total = total * smaller + number * _UNITS[amount[2]] * parts
        parts, at = parts * smaller, amount.end()
    return rounded(-total if is_past or sign == "-" else total, parts)


def _ratio(text: str) -> tuple[int, int]:
    """Return what a decimal number is exactly, as numerator and denominator."""
    whole, _, decimals = text.replace(",", ".").partition(".")
    return int(whole + decimals), 10 ** len(decimals)


def _decimal_to_ns(text: str) -> int:
    """Return a decimal number of seconds as nanoseconds."""
    numerator, denominator = _ratio(text)
    return rounded(numerator * NS_PER_S, denominator)


def span_to_ns(span: Span, what: str) -> int:
    """Return a span of time in any accepted form, as nanoseconds.

    Raises:
        TypeError, ValueError: it is none, or not finite; the text says `what` it was to be.
    """
    if isinstance(span, timedelta):
        return delta_to_ns(span)
    if isinstance(span, str):
        span_ns = _span_text_to_ns(span, what)
    elif is_number(span):
        span_ns = seconds_to_ns(span, what)
    else:
        raise TypeError(f"{what} is {_ACCEPTED_SPANS}, not {span!r}")
    if abs(span_ns) > _MAX_SPAN_NS:
        raise ValueError(f"{what} is {_SPAN_TEXTS}, of at most 999999999 days, not {span!r}")
    return span_ns


def _span_text_to_ns(text: str, what: str) -> int:
    told = text.strip(" ")
    is_short = len(told) <= _MAX_TEXT
    if is_short and _SECONDS.fullmatch(told):
        return _decimal_to_ns(told)
    span_ns = _from_now_to_ns(told) if is_short else None
    if span_ns is None:
        remark = f" ({_OF_MONTHS})" if is_short and _MONTHS.fullmatch(told) else ""
        raise ValueError(f"{what} is {_SPAN_TEXTS}, not {text!r}{remark}")
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
            f"give either a delta ({_ACCEPTED_SPANS}) or keywords of timedelta, such as hours=1"
        )
    if delta is None:
        for name, value in keywords.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be finite, not {value!r}")
        try:
            delta = timedelta(**keywords)
        except OverflowError:
            given = ", ".join(f"{name}={value!r}" for name, value in keywords.items())
            raise ValueError(f"a delta is of at most 999999999 days, not {given}") from None
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
