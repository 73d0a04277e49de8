"""Instants and spans are written the same way in Python, on pytest's command line and in its ini
file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

SOURCE = """
import time

def seconds():
    return int(subprocess.check_output(["date", "+%s"]))

def is_near(distance_s):
    return abs(seconds() - time.clock_gettime(5) - distance_s) < 60
"""
DISTANCES = {"-15d": -15 * 86400, "+1h30m": 5400, "2 days ago": -2 * 86400, "in 3 weeks": 1814400}


def test_starts(run: Run) -> None:
    """Of the marker, FrozenClock and the factory, and where move_to goes: from the clock's now."""
    tests = [
        f"""
@pytest.mark.frozen_time({when!r})
def test_{number}(frozen_clock, frozen_clock_factory):
    assert is_near({distance_s})
    for clock in FrozenClock({when!r}), frozen_clock_factory({when!r}):
        with clock, clock.patch_subprocess():
            assert is_near({distance_s})
            clock.move_to({when!r})
            assert is_near({distance_s * 2})
            clock.move_to("yesterday 17:00")
            day_s = int(clock.time()) // 86400 * 86400
            assert seconds() == day_s + 17 * 3600
            clock.move_to("tomorrow noon")
            assert seconds() == day_s + 86400 + 12 * 3600
            clock.move_to("@0")
            assert seconds() == 0
"""
        for number, (when, distance_s) in enumerate(DISTANCES.items())
    ]
    source = "\n".join([SOURCE, "from pytest_vdsotime import FrozenClock", *tests])
    run(source).assert_outcomes(passed=len(tests))


@pytest.mark.parametrize("when", DISTANCES)
@pytest.mark.parametrize("place", ["option", "ini"])
def test_of_the_run(run: Run, pytester: pytest.Pytester, when: str, place: str) -> None:
    given = [f"--vdso-time={when}"] if place == "option" else []
    if place == "ini":
        pytester.makeini(f"[pytest]\nvdso_time = {when}\nvdso_stride = 1h")
    source = f"{SOURCE}\ndef test(frozen_clock):\n    assert is_near({DISTANCES[when]})\n"
    if place == "ini":
        source = source.replace("assert", "with frozen_clock.patch_subprocess(): assert")
    run(source, *given).assert_outcomes(passed=1)


def test_spans(run: Run) -> None:
    source = """
@pytest.mark.frozen_time("@0", stride="1 hour")
def test(frozen_clock):
    frozen_clock.advance("1h30m")
    frozen_clock.advance("2 days", stride="90 min")
    frozen_clock.jump("1 w, 1s")
    frozen_clock.advance("0.5")
    frozen_clock.advance(".5s")
    assert frozen_clock.time() == 5400 + 2 * 86400 + 7 * 86400 + 2
    for backwards in "-1h", "2 days ago":
        with pytest.raises(ValueError, match="time does not pass backwards"):
            frozen_clock.advance(backwards)
    for unclear in "1 month", "1e3", "soon":
        with pytest.raises(ValueError, match="a delta is a span such as '1h30m'"):
            frozen_clock.jump(unclear)
"""
    run(source).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vdso_time", "03/04/2030", "*(write year-month-day: '2030-04-03'); use ISO 8601*"),
        ("vdso_time", "2 months ago", "*(months and years differ in length: *"),
        ("vdso_stride", "1 month", "stride is a span such as '1h30m', *(months and years differ *"),
        ("vdso_stride", "0s", "stride is a span of time of some length, not '0s'"),
    ],
)
def test_what_is_refused(
    run: Run, pytester: pytest.Pytester, key: str, value: str, message: str
) -> None:
    """Nothing is said of what an ini file cannot hold."""
    pytester.makeini(f"[pytest]\n{key} = {value}")
    result = run("def test(): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"ERROR: ini option {key} = {value}: {message}")
    assert "timedelta" not in result.stderr.str()
