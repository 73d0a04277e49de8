"""What is started past a marker's clock is told: before it, by setup_class and fixtures of modules,
and beside it, by a child that stays in real time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

SETUP = """
import os
from subprocess import Popen

@pytest.mark.frozen_time("1970-01-01")
class TestMarked:
    @classmethod
    def setup_class(cls):
        cls.year = year()
        cls.again = year()

    def test_one(self):
        assert (self.year, self.again, year()) == (NOW, NOW, 1970)

    def test_two(self):
        assert os.popen("date -u +%Y").read() == "1970\\n"

@pytest.mark.frozen_time("1970-01-01")
class TestUnittest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        assert os.system("true") == 0

    def test_one(self):
        assert year() == 1970

class TestUnmarked:
    @classmethod
    def setup_class(cls):
        assert year() == NOW

    @pytest.mark.frozen_time("1970-01-01")
    def test_one(self):
        assert year() == 1970
"""


def test_setup_class(run: Run) -> None:
    result = run(SETUP)
    result.assert_outcomes(passed=4, warnings=2)
    result.stdout.fnmatch_lines(
        [
            "*:*: RealTimeWarning: setup_class starts a program, which runs in real time: it comes "
            "before the clock of the marker*",
            "*:*: RealTimeWarning: setUpClass starts a program*",
        ],
    )


MODULE = """
pytestmark = pytest.mark.frozen_time("1970-01-01")

@pytest.fixture(scope="module")
def server():
    reader = Reader()
    yield reader
    reader.close()

@pytest.fixture(scope="module")
def own(frozen_clock_factory):
    clock = frozen_clock_factory("1999-01-01")
    return clock.check_output(["date", "+%Y"])

@pytest.fixture(scope="module")
def idle():
    return 7

def test_one(server, own, idle):
    assert (server.year(), int(own), idle, year()) == (NOW, 1999, 7, 1970)
"""


def test_a_fixture_of_a_module(run: Run) -> None:
    result = run(MODULE)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*RealTimeWarning: the fixture 'server' of module scope starts a program*"]
    )


def test_the_suites_clock_has_them(run: Run) -> None:
    result = run(SETUP.replace("NOW", "1999"), "--vdso-time=1999-01-01")
    result.assert_outcomes(passed=4)


SESSION = """
@pytest.fixture(scope="session", autouse=True)
def clock(frozen_session_clock):
    frozen_session_clock.move_to("1999-01-01")
"""


@pytest.mark.parametrize(("source", "passed"), [(SETUP, 4), (MODULE, 1)])
def test_the_sessions_clock_has_them(run: Run, source: str, passed: int) -> None:
    """As the warning advises."""
    result = run(source.replace("NOW", "1999") + SESSION, "-W", "error")
    result.assert_outcomes(passed=passed)


CHILD = """
@pytest.fixture
def server():
    reader = Reader()
    yield reader
    reader.close()

def test_fails(server, frozen_clock):
    assert year_of(frozen_clock) == server.year() + 1
"""


def test_a_failure_names_children_on_no_clock(run: Run) -> None:
    result = run(CHILD)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "children of the test process that are on no clock, and so in real time",
            "  sh -c 'while read line; do date -u +%Y; done' (pid *)",
            "Start them while the clock is patched in, or attach(pid, children=True) to them.",
        ]
    )
