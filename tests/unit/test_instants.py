"""Instants and spans as people write them: one grammar, and nothing is guessed."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import strategies as st

from pytest_vdsotime.instants import (
    TimedeltaKeywords,
    format_instant,
    format_span,
    parse_delta,
    parse_instant,
    parse_stride,
    span_to_ns,
)
from pytest_vdsotime.timeline import EARLIEST_NS, LATEST_NS, check_range

Examples = Callable[..., Callable[[Callable[..., None]], None]]

S = 1_000_000_000
DAY = 86400 * S
NOW = parse_instant("2026-11-29T21:46:55.5Z")

MAX_SPAN_NS = timedelta.max // timedelta(microseconds=1) * 1000
instants = st.integers(EARLIEST_NS, LATEST_NS)


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("2038-01-19T03:14:07Z", 2**31 - 1),
        ("2106-02-07T06:28:16", 2**32),
        ("1969-12-31T23:59:59Z", -1),
        ("@0", 0),
        ("@-1", -1),
        ("@.5", 0.5),
        (" 1970-01-01 ", 0),
        ("1970-01-01 00:00:00 UTC", 0),
        ("1970-01-01t01:00:00z", 3600),
        ("19700101T0100", 3600),
        ("1970-W01-4", 0),
        ("1970-01-01 01:00 +0100", 0),
        ("1970-01-01T00:00-0030", 1800),
        ("@1234567890", 1234567890),
        (0, 0),
        (-1, -1),
        (1234567890, 1234567890),
        (date(1970, 1, 2), 86400),
        (datetime(1970, 1, 2), 86400),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
    ],
)
def test_every_form_of_an_instant(when: Any, seconds: int) -> None:
    assert parse_instant(when) == seconds * S


def test_fractions_are_kept() -> None:
    assert parse_instant("1970-01-01T00:00:00.000001Z") == 1000
    assert parse_instant(0.5) == S // 2
    assert parse_instant("@0.000000001") == 1
    assert parse_instant("1970-01-01T00:00:00,123456789Z") == 123456789
    assert parse_instant("1969-12-31T23:59:59.999999999") == -1


def test_relative_instants_count_from_now() -> None:
    assert parse_instant(None, 5) == 5
    assert parse_instant(timedelta(seconds=-2), 5 * S) == 3 * S
    for _ in range(1000):
        before = time.time_ns()
        assert before <= parse_instant(None) <= time.time_ns()


@pytest.mark.parametrize(
    ("when", "same"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31 23:59:60", "2017-01-01"),
        ("20161231T235960", "2017-01-01"),
        ("2016-12-31T23:59:60.25Z", "2017-01-01T00:00:00.25Z"),
        ("2016-12-31T18:59:60,5-05:00", "2017-01-01T00:00:00.5Z"),
        ("1999-01-01T12:34:60", "1999-01-01T12:35:00"),  # as mktime(3) has it
    ],
)
def test_second_60_is_the_next_minutes_first(when: str, same: str) -> None:
    assert parse_instant(when) == parse_instant(same)


@pytest.mark.parametrize(
    ("when", "instant_ns"),
    [("0001-01-01", EARLIEST_NS), ("9999-12-31T23:59:59.999999Z", LATEST_NS - 999)],
)
def test_the_ends_of_the_calendar_are_ordinary(when: str, instant_ns: int) -> None:
    assert parse_instant(when) == instant_ns
    assert parse_instant(format_instant(instant_ns)) == instant_ns


@pytest.mark.parametrize(
    "when",
    [
        "",
        "yesterday",
        "2024-02-30",
        "1970-13-01",
        "@",
        "@x",
        "@1/0",
        1e300,
        math.inf,
        math.nan,
        10**400,
    ]
    + [-(10**12), "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:60Z"]
    + ["2016-12-31T23:59:61Z", "2016-12-31T23:60:60Z", "2016-12-31T23:60", "2016-12-31T24:59:60"],
)
def test_an_impossible_instant_is_a_value_error(when: Any) -> None:
    with pytest.raises(ValueError):
        parse_instant(when)


@pytest.mark.parametrize("when", [True, b"1970-01-01", [], object(), 1j])
def test_another_type_is_a_type_error_that_names_the_forms(when: Any) -> None:
    with pytest.raises(TypeError, match="ISO 8601"):
        parse_instant(when)


def test_the_text_of_a_bad_instant_names_the_forms() -> None:
    with pytest.raises(ValueError, match=r"^'yesterday' is not .*17:00.*ISO 8601.*2 days ago"):
        parse_instant("yesterday")


@pytest.mark.parametrize(
    ("delta", "keywords", "ns"),
    [
        (1, {}, S),
        (0.25, {}, S // 4),
        (0, {}, 0),
        (timedelta(days=1, microseconds=1), {}, 86400 * S + 1000),
        (None, {"hours": 1}, 3600 * S),
        (None, {"days": 1, "minutes": -1}, 86340 * S),
    ],
)
def test_deltas(delta: Any, keywords: TimedeltaKeywords, ns: int) -> None:
    assert parse_delta(delta, keywords) == ns


@pytest.mark.parametrize(
    ("delta", "keywords", "error"),
    [
        (-1, {}, ValueError),
        (None, {"hours": -1}, ValueError),
        (math.nan, {}, ValueError),
        (10**400, {}, ValueError),
        (None, {"hours": 10**12}, ValueError),
        (None, {"days": 10**400}, ValueError),
        (None, {"hours": math.inf}, ValueError),
        (None, {}, TypeError),
        (1, {"hours": 1}, TypeError),
        (None, {"fortnights": 1}, TypeError),
        ("1x", {}, ValueError),
        ("2 days ago", {}, ValueError),
        (True, {}, TypeError),
    ],
)
def test_bad_deltas(delta: Any, keywords: TimedeltaKeywords, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_delta(delta, keywords)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (172800, "2 d"),
        (304, "5 min 4 s"),
        (93784.123, "1 d 2 h 3 min 4.123 s"),
        (3600.0001, "1 h"),
        (1.5, "1.5 s"),
        (0.9999999, "1 s"),
        (59.9999, "1 min"),
        (0.1, "100 ms"),
        (0.0025, "2.5 ms"),
        (1.5e-6, "1.5 µs"),
        (5e-9, "5 ns"),
        (-90, "-1 min 30 s"),
        (3652058 * 86400, "3652058 d"),
    ],
)
def test_spans_in_words(seconds: float, text: str) -> None:
    assert format_span(round(seconds * S)) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("-15d", "2026-11-14T21:46:55.5Z"),
        ("+1h30m", "2026-11-29T23:16:55.5Z"),
        ("2 days ago", "2026-11-27T21:46:55.5Z"),
        ("in 3 weeks", "2026-12-20T21:46:55.5Z"),
        ("in 1 day, 2 hours and 3 mins", "2026-11-30T23:49:55.5Z"),
        ("1.5h ago", "2026-11-29T20:16:55.5Z"),
        ("- 5.5 s", "2026-11-29T21:46:50Z"),
        ("+500ms", "2026-11-29T21:46:56Z"),
        ("now", "2026-11-29T21:46:55.5Z"),
        ("yesterday 17:00", "2026-11-28T17:00:00Z"),
        ("today 9:05", "2026-11-29T09:05:00Z"),
        ("tomorrow 23:59:59.25", "2026-11-30T23:59:59.25Z"),
        ("yesterday 00:00 UTC", "2026-11-28"),
        ("today noon", "2026-11-29T12:00:00Z"),
        ("tomorrow  noon Z", "2026-11-30T12:00:00Z"),
    ],
)
def test_from_now(text: str, same: str) -> None:
    assert parse_instant(text, NOW) == parse_instant(same)


def test_days_near_now_are_those_of_utc_before_1970_too() -> None:
    assert parse_instant("yesterday 17:00", -1) == -2 * DAY + 17 * 3600 * S
    assert parse_instant("yesterday 17:00", 0) == -DAY + 17 * 3600 * S


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("03/04/2030", "write year-month-day: '2030-04-03'"),
        ("03/04/2030 17:00", "write year-month-day"),
        ("2030/04/03", "write year-month-day"),
        ("3.4.2030", "write year-month-day"),
        ("03-04-2030", "write year-month-day"),
        ("03/04/30", "write year-month-day"),
        ("2030-4-3", "write year-month-day"),
        ("2 months ago", "months and years differ"),
        ("in 1 year", "months and years differ"),
        ("-1y", "months and years differ"),
        ("+1M", "months and years differ"),
        ("+1mo", "months and years differ"),
        ("1234567890", "seconds since the epoch: '@90'"),
        ("-90", "a span: '+90s'"),
        ("@2000-01-01 00:00:00", "behind @ comes a number of seconds"),
        ("@1e9", "behind @ comes a number of seconds"),
        ("2 days", "which way? '+2 days', '2 days ago'"),
        (".5h", "which way?"),
        ("tomorrow", "at which time of the day?"),
        ("tomorrow midnight", "at which end of the day?"),
        ("17:00", "of which day?"),
        ("noon", "of which day?"),
        ("2030-02-29", "day is out of range for month"),
        ("20300229T1200", "day is out of range for month"),
    ],
)
def test_what_is_not_understood_says_how_it_is_written(text: str, remark: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(repr(text))} is not .*{re.escape(remark)}"):
        parse_instant(text, NOW)


@pytest.mark.parametrize(
    "text",
    ["tomorrowish", "+1h -30m", "-2 days ago", "in -2 days", "+1h,", "+, 1h", "+1 h and", "+1.h"]
    + ["in", "ago", " ago", "+", "+5", "+1h30", "+1 monkeys", "+1H", "2 days before", "last week"]
    + [
        "yesterday 24:00",
        "yesterday 17",
        "yesterday 5pm",
        "yesterday 17:00+02:00",
        "yesterday17:00",
    ]
    + ["yesterday 12:60", "today noon noon", "now + 1h", "@ 0", "@+", "@0x10", "@1_000", "@٣"]
    + ["1970-01-01x10:00", "1970-01-01-10:00", "1970-01-01 10", "1970-01-01T10:00+24:00"]
    + ["1970-01-01T10:00+01:99", "1970-01-01T10:00:", "1970-01-01T24:00", "1970-01-01T1:00"]
    + ["1970-01-01T10:0000", "1970-0101", "1970-01", "1970-001", "1970-01-01 10:00 CET", "٣d ago"]
    + ["+" + "9" * 5000 + "s", "@" + "9" * 5000, "+1s\n", "1970-01-01\n", "+1s\0", "in 1h ago"],
)
def test_no_guess(text: str) -> None:
    with pytest.raises(ValueError, match="is not an instant"):
        parse_instant(text, NOW)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1h30m", 5400 * S),
        ("90s", 90 * S),
        ("90", 90 * S),
        ("0.25", S // 4),
        ("2 days", 2 * DAY),
        ("in 1 week", 7 * DAY),
        ("+20 ms", 20_000_000),
        ("1.5 \u00b5s", 1500),
        ("1.5 \u03bcs", 1500),
        ("1 min 1 sec", 61 * S),
        (" 1 h ", 3600 * S),
    ],
)
def test_spans(text: str, ns: int) -> None:
    assert span_to_ns(text, "it") == parse_delta(text, {}) == parse_stride(text) == ns


@pytest.mark.parametrize(
    "text",
    ["", "x", "1x", "1e9", "inf", "nan", "1_000", "٣", "0x10", "1h 30", "h", "1 month"],
)
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it is a span such as .*, not '"):
        span_to_ns(text, "it")


@pytest.mark.parametrize("text", ["x", "1 month", "@", "@9e9", "-199999w", "17:00"])
def test_no_text_is_told_of_python(text: str) -> None:
    """Of errors that a shell or an ini file may show."""
    with pytest.raises(ValueError) as of_instant:
        parse_instant(text)
    with pytest.raises(ValueError) as of_span:
        span_to_ns(f"{text}?", "stride")
    for error in of_instant, of_span:
        assert not re.search("timedelta|datetime|None|float", str(error.value))


@pytest.mark.parametrize(
    "part", [" ", "1 ", "1h ", " ago", "1.", "and ", "@", "-", "1", "\t", "9d"]
)
def test_a_text_without_end_is_none(part: str) -> None:
    """However long, it is refused at once."""
    for text in (f"1{part * 10**6}x", f"today {part * 10**6}", f"2030-01-01 {part * 10**6}x"):
        with pytest.raises(ValueError, match="is not an instant"):
            parse_instant(text, NOW)
        with pytest.raises(ValueError, match="it is a span"):
            span_to_ns(text, "it")


# Of any text and any number.


def test_an_instant_is_read_as_it_was_written(examples: Examples) -> None:
    @examples(instants)
    def check(instant_ns: int) -> None:
        whole_ns = instant_ns // 1000 * 1000
        assert parse_instant(format_instant(instant_ns), NOW) == whole_ns
        sign, (seconds, ns) = "-" if instant_ns < 0 else "", divmod(abs(instant_ns), S)
        assert parse_instant(f"@{sign}{seconds}.{ns:09}") == instant_ns


def test_iso_is_python_s_own(examples: Examples) -> None:
    @examples(
        st.datetimes(timezones=st.timezones() | st.just(UTC)),
        st.sampled_from("T "),
        st.sampled_from(["auto", "milliseconds", "seconds", "minutes"]),
    )
    def check(moment: datetime, separator: str, precision: str) -> None:
        text = moment.isoformat(separator, precision)
        if re.search(r"[+-]\d\d:\d\d:\d\d", text[-9:]):  # local mean time
            with pytest.raises(ValueError):
                parse_instant(text)
            return
        try:
            instant_ns = check_range(
                (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC))
                // timedelta(microseconds=1)
                * 1000,
                text,
            )
        except (OverflowError, ValueError):
            with pytest.raises(ValueError):
                parse_instant(text)
        else:
            assert parse_instant(text) == instant_ns


UNITS = {"w": 7 * DAY, "days": DAY, "h": 3600 * S, "min": 60 * S, " s": S, "ms": 10**6, " ns": 1}


def test_amounts_are_added(examples: Examples) -> None:
    @examples(
        st.lists(
            st.tuples(st.integers(0, 999), st.sampled_from(sorted(UNITS))), min_size=1, max_size=60
        ),
        st.sampled_from(["", " ", ", ", " and "]),
    )
    def check(amounts: list[tuple[int, str]], separator: str) -> None:
        text = separator.join(f"{number}{unit}" for number, unit in amounts)
        ns = sum(number * UNITS[unit] for number, unit in amounts)
        assert span_to_ns(text, "it") == ns
        assert span_to_ns(f"-{text}", "it") == span_to_ns(f"{text} ago", "it") == -ns
        for told, instant_ns in (f"in {text}", ns), (f"+{text}", ns), (f"{text} ago", -ns):
            assert parse_instant(told, 0) == instant_ns
        with pytest.raises(ValueError, match="which way"):
            parse_instant(text, 0)


def test_a_span_is_read_as_it_was_written(examples: Examples) -> None:
    """To the millisecond; one that is shorter than a second, to the nanosecond."""

    @examples(st.integers(-(10**14), 10**14), st.integers(-999_499_999, 999_499_999))
    def check(milliseconds: int, nanoseconds: int) -> None:
        for ns in (milliseconds * 10**6, nanoseconds):
            assert span_to_ns(format_span(ns), "it") == ns


decimals = st.builds("{}{}".format, st.integers(0, 10**15), st.from_regex(r"\A(\.[0-9]{1,20})?\Z"))


def test_fractions_are_exact(examples: Examples) -> None:
    """To the nearest nanosecond, of two the even one."""

    @examples(decimals, st.sampled_from(sorted(UNITS)), count=100)
    def check(number: str, unit: str) -> None:
        ns = round(Fraction(number) * UNITS[unit])
        if ns > MAX_SPAN_NS:
            with pytest.raises(ValueError, match="at most 999999999 days"):
                span_to_ns(f"{number}{unit}", "it")
        else:
            assert span_to_ns(f"{number}{unit}", "it") == ns
            assert span_to_ns(f"-{number}{unit}", "it") == -ns
        for text, seconds in ((f"@{number}", Fraction(number)), (f"@-{number}", -Fraction(number))):
            if EARLIEST_NS <= round(seconds * S) <= LATEST_NS:
                assert parse_instant(text) == round(seconds * S)


def test_numbers_are_seconds(examples: Examples) -> None:
    """As they are, and as they are written."""
    numbers = st.floats(-1e10, 1e10) | st.integers(-(10**10), 10**10)

    @examples(numbers, count=100)
    def check(seconds: float) -> None:
        ns = round(Fraction(seconds) * S)
        assert parse_instant(seconds) == span_to_ns(seconds, "it") == ns
        if isinstance(seconds, int):
            assert parse_instant(f"@{seconds}") == span_to_ns(f"{abs(seconds)}", "it") * (
                -1 if seconds < 0 else 1
            )


def test_python_s_own_types_are_exact(examples: Examples) -> None:
    zones = st.none() | st.timezones() | st.just(UTC)

    @examples(st.datetimes(timezones=zones), st.timedeltas(), count=100)
    def check(moment: datetime, delta: timedelta) -> None:
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        since = aware - datetime(1970, 1, 1, tzinfo=UTC)
        instant_ns = since // timedelta(microseconds=1) * 1000
        if EARLIEST_NS <= instant_ns <= LATEST_NS:
            assert parse_instant(moment) == instant_ns
        else:
            with pytest.raises(ValueError):
                parse_instant(moment)
        assert span_to_ns(delta, "it") == delta // timedelta(microseconds=1) * 1000
        assert parse_instant(moment.date()) == parse_instant(moment.date().isoformat())


texts = (
    st.text()
    | st.text("0123456789 +-@:./,TZWdhmsw")
    | st.from_regex(r"\A(in |-|\+|@|yesterday |today )?([0-9]{1,4}[-:. wdhms]?){1,4}( ago)?\Z")
)


def test_any_text_is_an_instant_or_a_value_error(examples: Examples) -> None:
    @examples(texts, count=150)
    def check(text: str) -> None:
        try:
            instant_ns = parse_instant(text, NOW)
        except ValueError as error:
            assert str(error).startswith(repr(text))
            return
        assert EARLIEST_NS <= instant_ns <= LATEST_NS
        forms = (
            r" *@",
            r" *[+-]",
            r" *in ",
            r".* ago *",
            r" *(yesterday|today|tomorrow) ",
            r" *now *",
        )
        iso = r" *\d{4}-?(\d\d|W\d)"
        assert any(re.match(form, text, re.ASCII) for form in (*forms, iso))


def test_any_text_is_a_span_or_a_value_error(examples: Examples) -> None:
    @examples(texts, count=150)
    def check(text: str) -> None:
        try:
            ns = span_to_ns(text, "it")
        except ValueError as error:
            assert str(error).startswith("it is a span")
        else:
            assert isinstance(ns, int) and re.search(r"\d", text)


def test_no_date_with_slashes_or_dots_is_taken(examples: Examples) -> None:
    @examples(st.from_regex(r"\A[0-9]{1,4}[/.][0-9]{1,2}[/.][0-9]{1,4}( [0-9]{2}:[0-9]{2})?\Z"))
    def check(text: str) -> None:
        with pytest.raises(ValueError, match="write year-month-day"):
            parse_instant(text, NOW)
