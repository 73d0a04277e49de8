"""What runs on a frozen test's clock, and what does not: fixtures by scope, other items."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

FUNCTION_SCOPED = """
seen = {}

@pytest.fixture(autouse=True)
def automatic():
    seen["before"] = year()
    yield
    seen["after"] = year()

@pytest.fixture
def asked_for():
    return year()

@pytest.mark.frozen_time("1970-01-01")
def test_fixtures(asked_for):
    assert (seen["before"], asked_for, year()) == (1970, 1970, 1970)

def test_teardown_was_frozen_too():
    assert seen == {"before": NOW, "after": 1970}

@pytest.mark.frozen_time("1970-01-01")
class TestXunit:
    def setup_method(self):
        self.before = year()

    def teardown_method(self):
        seen["method"] = year()

    def test_method(self):
        assert (self.before, seen["before"]) == (1970, 1970)

    def test_teardown_of_method(self):
        assert seen["method"] == 1970

@pytest.mark.frozen_time("1970-01-01")
class TestUnittest(unittest.TestCase):
    def setUp(self):
        self.before = year()

    def tearDown(self):
        seen["unittest"] = year()

    def test_method(self):
        assert (self.before, seen["before"]) == (1970, 1970)

    def test_teardown_of_method(self):
        assert seen["unittest"] == 1970

def test_after_them_time_is_real():
    assert year() == NOW
"""


def test_function_scoped_fixtures_are_frozen_with_their_test(run: Run) -> None:
    run(FUNCTION_SCOPED).assert_outcomes(passed=7)


def test_the_programs_of_a_test_end_with_its_clock(run: Run) -> None:
    source = """
started = []

@pytest.mark.frozen_time("1970-01-01")
def test_starts():
    started.append(subprocess.Popen(["sleep", "1000"]))

def test_ended():
    assert started[0].wait() == -9
"""
    run(source).assert_outcomes(passed=2)


BROADER = """
@pytest.fixture(scope="session")
def server():
    reader = Reader()
    yield reader
    reader.close()
    print("session ends in", year())

@pytest.fixture(scope="module", autouse=True)
def module():
    return year()

@pytest.fixture(scope="class")
def nested(request):
    return [year(), request.getfixturevalue("innermost"), year()]

@pytest.fixture(scope="module")
def innermost():
    return year()

@pytest.mark.frozen_time("1970-01-01")
class TestBroader:
    @classmethod
    def setup_class(cls):
        cls.before = year()

    @classmethod
    def teardown_class(cls):
        print("class ends in", year())

    def test_asked_for_by_name(self, module, server):
        assert [self.before, module, server.year(), year()] == [{broad}, {broad}, {broad}, 1970]

    def test_outlives_its_first_test(self, server):
        assert (server.year(), year()) == ({broad}, 1970)

    def test_asked_for_in_the_test(self, request):
        assert request.getfixturevalue("nested") == [{broad}] * 3
        assert year() == 1970

class TestUnittest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.before = year()

    @pytest.mark.frozen_time("1970-01-01")
    def test_class(self):
        assert (self.before, year()) == ({broad}, 1970)
"""


@pytest.mark.parametrize(
    ("option", "year"), [([], "NOW"), (["--vdso-time=2002-06-01"], "2002")], ids=["real", "suite"]
)
def test_broader_fixtures_are_not_on_the_clock_of_one_test(
    run: Run, option: list[str], year: str
) -> None:
    result = run(BROADER.format(broad=year), "-s", *option)
    result.assert_outcomes(passed=4)
    printed = r"20\d\d" if year == "NOW" else year
    result.stdout.re_match_lines([f".*class ends in {printed}$", f".*session ends in {printed}$"])


def test_a_broader_fixture_that_fails_leaves_the_test_frozen(run: Run) -> None:
    source = """
@pytest.fixture(scope="module")
def broken():
    raise LookupError(year())

@pytest.mark.frozen_time("1970-01-01")
def test_goes_on(request):
    with pytest.raises(LookupError, match=str(NOW)):
        request.getfixturevalue("broken")
    assert year() == 1970
"""
    run(source).assert_outcomes(passed=1)


def test_a_failing_fixture_shows_nothing_of_the_plugin(run: Run) -> None:
    source = """
@pytest.fixture(scope="module")
def broken():
    raise LookupError("here")

@pytest.mark.frozen_time("1970-01-01")
def test_broken(broken):
    pass
"""
    result = run(source)
    result.assert_outcomes(errors=1)
    result.stdout.no_fnmatch_line("*pytest_vdsotime*")


def test_a_suite_with_its_own_frozen_clock_fixture_can_be_frozen(run: Run) -> None:
    source = """
@pytest.fixture
def frozen_clock():
    return "something else"

def test_own(frozen_clock):
    assert (frozen_clock, year()) == ("something else", 2002)
"""
    run(source, "--vdso-time=2002-06-01").assert_outcomes(passed=1)


def test_a_suite_may_extend_the_fixture(run: Run) -> None:
    source = """
@pytest.fixture
def frozen_clock(frozen_clock):
    frozen_clock.move_to("2010-01-01")
    return frozen_clock

@pytest.mark.frozen_time("1970-01-01")
def test_extended(frozen_clock):
    assert (year(), year_of(frozen_clock)) == (2010, 2010)
"""
    run(source).assert_outcomes(passed=1)


def test_doctests_and_other_items_run_at_the_time_of_the_suite(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
import subprocess

import pytest

def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".sh":
        return Script.from_parent(parent, path=file_path)

class Script(pytest.File):
    def collect(self):
        yield Command.from_parent(self, name="command")

class Command(pytest.Item):
    def runtest(self):
        subprocess.run(["sh", self.path], check=True)
"""
    )
    pytester.makefile(".sh", test_script='test "$(date -u +%Y)" = 2002')
    doctest = """
>>> import subprocess
>>> subprocess.getoutput("date -u +%Y")
'2002'
"""
    pytester.makepyfile(documented=f"'''{doctest}'''")
    source = "def test_python():\n    assert year() == 2002"
    result = run(source, "--vdso-time=2002-06-01", "--doctest-modules")
    result.assert_outcomes(passed=3)
