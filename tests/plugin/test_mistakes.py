"""Bad values end the run before its first test, and the words name the place and the forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

ONE_TEST = """
def test_never_runs():
    print("it ran")
"""

FORMS = "*ISO 8601*"


def assert_usage_error(result: pytest.RunResult, *lines: str) -> None:
    """Nothing ran, and stderr holds `lines`."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([*lines])
    result.stdout.no_fnmatch_line("*it ran*")


@pytest.mark.parametrize("when", ["1970-13-01", "yesterday", "", "@", "@1e30"])
def test_option(run: Run, when: str) -> None:
    result = run(ONE_TEST, "-s", f"--vdso-time={when}")
    assert_usage_error(result, f"ERROR: --vdso-time={when}: *")


def test_option_names_the_accepted_forms(run: Run) -> None:
    assert_usage_error(run(ONE_TEST, "--vdso-time=yesterday"), f"*--vdso-time=yesterday: {FORMS}")


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("vdso_time", "1970-13-01", FORMS),
        ("vdso_monotonic", "backwards", "*'flow', 'freeze' or 'rate'*"),
        ("vdso_waits", "never", "*'follow' or 'real'*"),
        ("vdso_autojump", "sometimes", "*true, false or seconds*"),
        ("vdso_autojump", "-1", "*not negative*"),
        ("vdso_grace", "short", "*seconds*"),
        ("vdso_grace", "-1", "*not negative*"),
        ("vdso_patience", "long", "*real seconds*"),
        ("vdso_patience", "-1", "*patience is*not negative*"),
        ("vdso_skip", "'date", "*patterns*"),
        ("vdso_files", "maybe", "*files is 'real' or 'follow', not 'maybe'"),
        ("vdso_unavailable", "ignore", "*'error' or 'skip'*"),
    ],
)
def test_ini(run: Run, pytester: pytest.Pytester, key: str, value: str, accepted: str) -> None:
    pytester.makeini(f"[pytest]\n{key} = {value}")
    assert_usage_error(run(ONE_TEST, "-s"), f"ERROR: ini option {key} = {value}: {accepted}")


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        ("'1970-13-01'", FORMS),
        ("['1970']", FORMS),
        ("start='tomorrow'", FORMS),
        ("rate=-1", "*not negative*"),
        ("rate='fast'", "*a number*"),
        ("monotonic='backwards'", "*'flow', 'freeze' or 'rate'*"),
        ("waits='never'", "*'follow' or 'real'*"),
        ("grace=-1", "*not negative*"),
        ("grace='short'", "*a number of seconds*"),
        ("patience=-1", "*not negative*"),
        ("patience='long'", "*a number of real seconds*"),
        ("only='date'", "*only is a list of patterns*not 'date'*"),
        ("skip=[1]", "*skip: a pattern is a string, not 1*"),
        ("autojump='soon'", "*a bool or a number of real seconds*"),
        ("autojump=True, waits='real'", "*autojump: waits follow the clock then, not waits='real'"),
        ("files='maybe'", "*files is 'real' or 'follow', not 'maybe'"),
        ("files=True", "*files is 'real' or 'follow', not True"),
        ("python='yes'", "*a bool*"),
        ("0, 1", "*only start may be positional*"),
        ("0, start=1", "*only start may be positional*"),
        ("at=0", "*no parameter at: frozen_time(start=None, *"),
    ],
)
def test_marker(run: Run, arguments: str, accepted: str) -> None:
    marker = f"pytest.mark.frozen_time({arguments})"
    result = run(f"def test_first(): print('it ran')\n\n@{marker}{ONE_TEST}", "-s")
    shown = arguments.replace("[", "[[]")
    says = f"ERROR: *.py::test_never_runs: marker frozen_time({shown}): {accepted}"
    assert_usage_error(result, says)


def test_marker_of_a_module(run: Run) -> None:
    """The first test that has it is named."""
    mark = "pytestmark = pytest.mark.frozen_time(start='tomorrow')"
    result = run(f"def test_first(): print('it ran')\n\n{mark}{ONE_TEST}", "-s")
    says = f"ERROR: *.py::test_first: marker frozen_time(start='tomorrow'): {FORMS}"
    assert_usage_error(result, says)


def test_marker_without_time_machine(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys\nsys.modules['time_machine'] = None")
    result = run(f"@pytest.mark.frozen_time(python=True){ONE_TEST}", "-s")
    accepted = "*time-machine*: pip install 'pytest-vdsotime[[]python]'"
    assert_usage_error(result, f"ERROR: *marker frozen_time(python=True): {accepted}")


def test_marker_on_a_worker(run: Run) -> None:
    result = run(f"@pytest.mark.frozen_time('soon'){ONE_TEST}", "-n", "1", "-s")
    assert result.ret != 0
    output = result.stdout.str() + result.stderr.str()
    assert "test_never_runs: marker frozen_time('soon'): " in output
    assert "it ran" not in output


@pytest.mark.parametrize("argument", ["rate=-1", "start='soon'", "files='maybe'", "speed=1"])
def test_factory(run: Run, argument: str) -> None:
    source = f"""
def test_raises(frozen_clock_factory):
    with pytest.raises((TypeError, ValueError)):
        frozen_clock_factory({argument})
"""
    run(source).assert_outcomes(passed=1)


@pytest.mark.parametrize("made", ["frozen_clock_factory(rate=-1)", "FrozenClock(rate=-1)"])
def test_parameters_that_the_test_does_not_catch(run: Run, made: str) -> None:
    """The test fails, and no other."""
    source = f"""
from pytest_vdsotime import FrozenClock

def test_raises(frozen_clock_factory):
    {made}

def test_another():
    pass
"""
    run(source).assert_outcomes(failed=1, passed=1)
