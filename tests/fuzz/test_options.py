"""Parameters of a clock of any type and value, and words of any kind on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC
from typing import Any

import pytest
from hypothesis import strategies as st

from pytest_vdsotime import cli
from pytest_vdsotime.control.address import Address
from pytest_vdsotime.instants import parse_delta, parse_instant, parse_stride, span_to_ns
from pytest_vdsotime.options import NAMES, PARAMETERS, check_timeout, validate_options
from pytest_vdsotime.selection import Selection

Examples = Callable[..., Callable[[Callable[..., None]], None]]

huge = st.sampled_from(
    [10**400, -(10**400), 2**63, 2**64, 1e308, 5e-324, float("nan"), float("inf")]
)
texts = (
    st.text(max_size=12)
    | st.text("0123456789 +-@:./,TZWdhmsw'\"", max_size=20)
    | st.sampled_from(
        ["flow", "freeze", "rate", "follow", "real", "true", "off", "", "\0", "\ud800", "9" * 5000]
        + [" " * 20_000 + "x", "1 " * 10_000, "[a" * 10_000, "*a" * 1000]
        + ["-9e9w", "@" + "9" * 20, "'", '"', "\\", "[", "[!", "*" * 500 + "a", "1" + "0" * 300]
    )
)
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | huge
    | texts
    | st.binary(max_size=3)
    | st.complex_numbers()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones())
    | st.timedeltas()
    | st.just(object())
)
values = (
    plain | st.lists(plain, max_size=3) | st.dictionaries(texts, plain, max_size=2) | st.sets(texts)
)


def test_any_value_is_taken_or_refused(examples: Examples) -> None:
    names = st.sampled_from([name for name in NAMES if name != "python"])

    @examples(st.dictionaries(names, values, max_size=3), count=250)
    def check(given: dict[str, Any]) -> None:
        with suppress(TypeError, ValueError):
            options = validate_options(**given)
            assert options.grace_ns >= 0 and options.patience_ns >= 0 and options.rate.mult >= 0
            assert options.stride_ns is None or options.stride_ns > 0
            Selection(options.only, options.skip).has(["/bin/a", "a"])


def test_any_value_is_an_amount_of_time_or_none(examples: Examples) -> None:
    @examples(values, count=250)
    def check(value: object) -> None:
        checks: tuple[Callable[..., object], ...] = (
            parse_instant,
            parse_stride,
            check_timeout,
            lambda one: span_to_ns(one, "it"),
            lambda one: parse_delta(one, {}),
            lambda one: parse_delta(None, {"hours": one}),
        )
        for taken in checks:
            with suppress(TypeError, ValueError):
                taken(value)


def test_any_text_is_a_value_of_ini_or_none(examples: Examples) -> None:
    @examples(texts, count=150)
    def check(text: str) -> None:
        for one in PARAMETERS:
            for read in (one.from_ini, one.from_shell) if one.ini or one.flag else ():
                with suppress(TypeError, ValueError):
                    one.check(read(text))
        with suppress(ValueError):
            Address.parse(text)


flags = [one.flag for one in PARAMETERS if one.flag]
words = (
    st.sampled_from(flags)
    | st.builds("{}={}".format, st.sampled_from(flags), texts)
    | st.sampled_from(["--", "--trace", "--control", "--containers", "--explain", "--check", "-"])
    | st.sampled_from(["--help", "--version", "-h", "--at"])
    | texts
)


def test_any_words_are_a_command_or_a_line_of_usage(
    examples: Examples, capfd: pytest.CaptureFixture[str]
) -> None:
    @examples(st.lists(words, max_size=5), count=125)
    def check(words: list[str]) -> None:
        try:
            options = cli._parse([word.replace("\0", "") for word in words])
        except SystemExit as error:
            said = capfd.readouterr()
            if error.code == 0:  # --help, --version
                assert said.out.startswith(("usage: vdsotime", "vdsotime ")) and not said.err
                return
            assert (error.code, said.out) == (2, "")
            assert re.fullmatch(r"vdsotime: [^\n]+; try vdsotime --help\n", said.err), said.err
            assert not re.search("timedelta|datetime|None|float|Traceback", said.err)
        else:
            assert options.command or options.check or options.explain
            validate_options(**getattr(options, "parameters", {}))
