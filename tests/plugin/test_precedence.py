"""Which start, and which of the other parameters, a test's clock gets."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc

import pytest

Run = Callable[..., pytest.RunResult]

MATRIX = """
pytestmark = pytest.mark.frozen_time("2003-06-01")

def test_module():
    assert year() == 2003

@pytest.mark.frozen_time("2005-06-01")
def test_function():
    assert year() == 2005

@pytest.mark.frozen_time(start="2005-06-01")
@pytest.mark.parametrize(
    "expected", [2005, pytest.param(2006, marks=pytest.mark.frozen_time("2006-06-01"))]
)
def test_param(expected):
    assert year() == expected

@pytest.mark.frozen_time("2004-06-01")
class TestClass:
    def test_class(self):
        assert year() == 2004

    @pytest.mark.frozen_time("2005-06-01")
    def test_function(self, frozen_clock):
        assert year() == year_of(frozen_clock) == 2005

@pytest.mark.frozen_time("2007-06-01")
class TestDerived(TestClass):
    def test_class(self):
        assert year() == 2007

@pytest.mark.frozen_time("2004-06-01")
class TestUnittest(unittest.TestCase):
    def test_class(self):
        assert year() == 2004

    @pytest.mark.frozen_time("2005-06-01")
    def test_function(self):
        assert year() == 2005
"""


@pytest.mark.parametrize("option", [[], ["--vdso-time=2002-06-01"]])
@pytest.mark.parametrize("ini", ["", "vdso_time = 2001-06-01"])
def test_the_closest_marker_wins(
    run: Run, pytester: pytest.Pytester, option: list[str], ini: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    run(MATRIX, *option).assert_outcomes(passed=10)


UNMARKED = """
def test_unmarked():
    assert year() == {patched}

def test_fixture(frozen_clock):
    assert year() == {patched}
    assert year_of(frozen_clock) == {fixture}

@pytest.mark.frozen_time
def test_marker_without_start():
    assert year() == {fixture}

@pytest.mark.frozen_time(rate=60)
def test_marker_with_something_else(frozen_clock):
    assert year() == {fixture}
    assert frozen_clock.rate == 60

@pytest.mark.frozen_time(None)
def test_marker_says_now():
    assert year() == NOW
"""


@pytest.mark.parametrize(
    ("option", "ini", "patched", "fixture"),
    [
        ([], "", "NOW", "NOW"),
        ([], "vdso_time = 2001-06-01", "NOW", "2001"),
        ([], "vdso_time =", "NOW", "NOW"),
        (["--vdso-time=2002-06-01"], "", "2002", "2002"),
        (["--vdso-time=@1020000000"], "vdso_time = 2001-06-01", "2002", "2002"),
    ],
)
def test_then_the_option_then_the_ini_file(
    run: Run, pytester: pytest.Pytester, option: list[str], ini: str, patched: str, fixture: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    run(UNMARKED.format(patched=patched, fixture=fixture), *option).assert_outcomes(passed=5)


def test_each_parameter_has_its_own_closest_marker(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nvdso_monotonic = freeze")
    source = """
    def is_frozen(clock):
        return clock.monotonic_ns() == clock.monotonic_ns()

    pytestmark = pytest.mark.frozen_time("2003-06-01", rate=2)

    @pytest.mark.frozen_time(rate=3)
    class TestMerged:
        def test_rate_of_class_start_of_module(self, frozen_clock):
            assert (frozen_clock.rate, year()) == (3, 2003)
            assert is_frozen(frozen_clock)

        @pytest.mark.frozen_time("2005-06-01")
        @pytest.mark.frozen_time(monotonic="flow")
        def test_three_markers(self, frozen_clock):
            assert (frozen_clock.rate, year()) == (3, 2005)
            assert not is_frozen(frozen_clock)

    def test_factory(frozen_clock_factory):
        assert is_frozen(frozen_clock_factory())
        assert not is_frozen(frozen_clock_factory(monotonic="flow"))
    """
    run(cleandoc(source)).assert_outcomes(passed=3)


def test_the_factory_makes_clocks_with_times_of_their_own(run: Run) -> None:
    source = """
clocks = []

def test_skew(frozen_clock_factory, frozen_clock):
    early, late = frozen_clock_factory("1970-01-01"), frozen_clock_factory("2038-01-19", rate=1)
    clocks.extend([early, late, frozen_clock])
    assert [year_of(clock) for clock in clocks] == [1970, 2038, NOW]
    assert year_of(frozen_clock_factory()) == NOW

def test_behind_it():
    for clock in clocks:
        with pytest.raises(Exception, match="closed"):
            clock.run(["true"])
"""
    run(source, "-p", "no:randomly").assert_outcomes(passed=2)


def test_patterns_of_marker_and_ini(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nvdso_skip =\n    date\n    '/opt/my app/*'")
    source = """
    HERE = time.gmtime().tm_year

    def by_date():
        return int(subprocess.check_output(["date", "-u", "+%Y"]))

    def by_perl():
        return int(subprocess.check_output(["perl", "-e", "print 1900 + (gmtime)[5]"]))

    @pytest.mark.frozen_time("2003-06-01")
    def test_ini():
        assert (by_date(), by_perl()) == (HERE, 2003)

    @pytest.mark.frozen_time("2003-06-01", skip=["sh", "perl"])
    def test_marker():
        assert (by_date(), by_perl()) == (2003, HERE)

    @pytest.mark.frozen_time("2003-06-01", only=["perl"], skip=None)
    def test_only():
        assert (by_date(), by_perl()) == (HERE, 2003)
    """
    run("import time\n" + cleandoc(source)).assert_outcomes(passed=3)


STAMPS = """
def is_on_clock():
    subprocess.run(["touch", "f"], check=True)
    modified = int(subprocess.check_output(["stat", "-c", "%Y", "f"]))
    return time.gmtime(modified).tm_year == year() == 2003

def test_ini():
    assert is_on_clock() == {follow}

@pytest.mark.frozen_time("2003-06-01", files="follow")
def test_follow():
    assert is_on_clock()

@pytest.mark.frozen_time("2003-06-01", files="real")
class TestReal:
    def test_class(self):
        assert not is_on_clock()

    @pytest.mark.frozen_time(files="follow")
    def test_closer(self):
        assert is_on_clock()

def test_factory(frozen_clock_factory):
    with frozen_clock_factory("2003-06-01").patch_subprocess():
        assert is_on_clock() == {follow}
    with frozen_clock_factory("2003-06-01", files="real").patch_subprocess():
        assert not is_on_clock()
"""


@pytest.mark.parametrize("ini", ["", "vdso_files = real", "vdso_files = follow"])
def test_whether_files_follow(run: Run, pytester: pytest.Pytester, ini: str) -> None:
    """The marker that says so, else the ini file; there is no option of pytest for it."""
    pytester.makeini(f"[pytest]\n{ini}")
    source = "import time\n" + STAMPS.format(follow="follow" in ini)
    run(source, "--vdso-time=2003-06-01").assert_outcomes(passed=5)
