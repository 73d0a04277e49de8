"""frozen_session_clock: one clock for what fixtures of broader scope start, moved by tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

SERVER = """
@pytest.fixture(scope="session")
def server(frozen_session_clock):
    reader = Reader()
    yield reader
    if reader.program.poll() is None:
        reader.close()
"""

SUITE = (
    SERVER
    + """
@pytest.fixture(scope="module")
def module(frozen_session_clock):
    return year()

def of_test(session):
    # what a test's own programs read: the session's clock, unless the test has one of its own
    return 2002 if {is_suite} else session

def test_before_its_first_use():
    assert year() == of_test(NOW)

def test_moves(server, frozen_session_clock):
    frozen_session_clock.move_to("1970-01-01")
    assert (server.year(), year()) == (1970, of_test(1970))
    frozen_session_clock.advance(days=366)
    assert (server.year(), year()) == (1971, of_test(1971))

def test_stays_where_it_is(server, module):
    assert (server.year(), module, year()) == (1971, 1971, of_test(1971))

@pytest.mark.frozen_time("2001-01-01")
def test_own_clock(frozen_clock, frozen_session_clock, server, request):
    assert frozen_clock is not frozen_session_clock
    assert (year(), server.year(), year_of(frozen_session_clock)) == (2001, 1971, 1971)
    frozen_clock.advance(days=366)
    assert (year(), server.year()) == (2002, 1971)

def test_fixture_alone(frozen_clock, server):
    assert (year_of(frozen_clock), year()) == (of_test(NOW), of_test(1971))

def test_not_named():
    assert year() == of_test(1971)

@pytest.fixture(scope="session", autouse=True)
def last():
    yield
    print("after all fixtures but one:", year())
"""
)


@pytest.mark.parametrize(
    ("option", "is_suite"),
    [([], False), (["--vdso-time=2002-06-01"], True)],
    ids=["alone", "suite"],
)
def test_a_clock_for_the_session(run: Run, option: list[str], is_suite: bool) -> None:
    """From its first use to the end of the session, as its last fixture says, which was the first
    to be set up."""
    result = run(SUITE.format(is_suite=is_suite), "-s", "-W", "error", *option)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["*after all fixtures but one: 1971"])


def test_it_starts_as_the_others_do(run: Run, pytester: pytest.Pytester) -> None:
    """But for the marker, which is a test's."""
    pytester.makeini("[pytest]\nvdso_time = 1999-01-01\nvdso_monotonic = freeze")
    source = """
@pytest.mark.frozen_time("1970-01-01")
def test_ini(frozen_session_clock):
    assert (year_of(frozen_session_clock), year()) == (1999, 1970)
    before = frozen_session_clock.monotonic_ns()
    assert frozen_session_clock.monotonic_ns() == before
"""
    run(source).assert_outcomes(passed=1)


def test_first_asked_for_within_a_frozen_test(run: Run) -> None:
    source = """
@pytest.mark.frozen_time("1970-01-01")
def test_within(request):
    clock = request.getfixturevalue("frozen_session_clock")
    clock.move_to("1980-01-01")
    assert (year(), year_of(clock)) == (1970, 1980)

def test_behind():
    assert year() == 1980
"""
    run(source).assert_outcomes(passed=2)


def test_what_is_started_past_subprocess(run: Run) -> None:
    """By what the session's fixtures and its tests call, and by a test with a clock of its own."""
    source = """
import os

@pytest.fixture(scope="session")
def started(frozen_session_clock):
    frozen_session_clock.move_to("1999-01-01")
    return by_shell()

def by_shell():
    return int(os.popen("date -u +%Y").read()), os.system("test $(date -u +%Y) = 1999")

def by_fork():
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(writer, 1)
        os.execvp("date", ["date", "-u", "+%Y"])
    os.close(writer)
    with open(reader) as pipe:
        found = int(pipe.read())
    assert os.waitpid(pid, 0) == (pid, 0)
    return found

def test_session(started):
    assert started == by_shell() == (1999, 0)
    assert by_fork() == 1999

@pytest.mark.frozen_time("1970-01-01")
def test_own(started):
    assert by_shell()[0] == by_fork() == 1970

def test_after():
    assert by_fork() == by_shell()[0] == 1999
"""
    run(source, "-W", "error").assert_outcomes(passed=3)


def test_kept_for_longer_than_the_session(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
kept = []

def pytest_unconfigure():
    try:
        kept[0].now
    except Exception as error:
        print(f"\\n{type(error).__name__}: {error}")
"""
    )
    source = """
def test_keeps(frozen_session_clock, pytestconfig):
    import conftest
    conftest.kept.append(frozen_session_clock)
"""
    result = run(source)
    result.assert_outcomes(passed=1)
    words = "closed since the end of the session, whose frozen_session_clock it was"
    result.stdout.fnmatch_lines([f"ClockClosed: the clock is {words}"])


def test_a_session_that_ends_early(run: Run, pytester: pytest.Pytester) -> None:
    """The fixtures of the session end on the clock, and what they have left ends with it."""
    source = """
@pytest.fixture(scope="session")
def left(frozen_session_clock):
    frozen_session_clock.move_to("1970-01-01")
    program = subprocess.Popen(["sleep", "1000"])
    yield
    print("ended in", year(), program.poll())

def test_fails(left):
    assert False

def test_never_run():
    pass
"""
    pytester.makeconftest(
        """
import pathlib
import subprocess
import pytest

started = []
init = subprocess.Popen.__init__

def pytest_unconfigure():
    assert subprocess.Popen.__init__ is init
    children = pathlib.Path("/proc/self/task").glob("*/children")
    names = [pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
             for one in children for pid in one.read_text().split()]
    print("left:", [name for name in names if "waker" not in name])
"""
    )
    result = run(source, "-x", "-s")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ended in 1970 None", "left: []"])


def test_one_for_each_worker(run: Run) -> None:
    source = (
        SERVER
        + """
@pytest.mark.parametrize("number", range(6))
def test_on_a_worker(number, server, frozen_session_clock):
    before = frozen_session_clock.now
    assert server.year() == before.year
    frozen_session_clock.advance(days=366)
    assert server.year() == before.year + 1
"""
    )
    run(source, "-n", "2", "--vdso-time=2002-06-01").assert_outcomes(passed=6)


def test_a_server_that_crashes(run: Run) -> None:
    """The clock goes on, for the server's clients and for the next one."""
    source = (
        SERVER
        + """
def test_crash(server, frozen_session_clock):
    frozen_session_clock.move_to("1970-01-01")
    assert server.year() == 1970
    server.program.kill()
    frozen_session_clock.advance(days=366)
    assert server.program.wait() == -9
    assert frozen_session_clock.processes == []
    server.program.communicate()

def test_behind_it(server, frozen_session_clock):
    frozen_session_clock.advance(days=366)
    assert year() == 1972
    again = Reader()
    assert again.year() == 1972
    again.close()
"""
    )
    run(source).assert_outcomes(passed=2)


def test_a_test_without_programs(run: Run) -> None:
    source = """
def test_moves(frozen_session_clock):
    frozen_session_clock.move_to("1970-01-01")
    frozen_session_clock.advance(days=366)
    frozen_session_clock.settle()
    assert frozen_session_clock.now.year == 1971
    assert frozen_session_clock.processes == frozen_session_clock.waits == []

def test_a_program_at_last():
    assert year() == 1971
"""
    run(source).assert_outcomes(passed=2)


# What the report of a failed test says of them.

FAILS = (
    SERVER
    + """
def test_wrong_clock(server, frozen_clock):
    before = server.year()
    frozen_clock.advance(days=366)
    assert server.year() == before + 1

def test_right_clock(server, frozen_clock, frozen_session_clock):
    frozen_session_clock.advance(days=366)
    assert False

def test_two_more(server, frozen_clock_factory):
    node, late = frozen_clock_factory("1971-01-01"), frozen_clock_factory("1972-01-01")
    node.run(["true"])
    late.advance(1)
    assert False
"""
)


@pytest.mark.parametrize("option", [[], ["--vdso-time=2002-06-01"]], ids=["alone", "suite"])
def test_failure_sections(run: Run, option: list[str]) -> None:
    """Each clock that has programs or that the test has moved, by its name."""
    result = run(FAILS, "--tb=short", *option)
    result.assert_outcomes(failed=3)
    text = result.stdout.str()
    wrong, right, more = text.split("__ test_")[1:]
    for test, names in (
        (wrong, ["frozen_session_clock", "frozen_clock"]),
        (right, []),
        (more, ["frozen_session_clock", "node", "late"]),
    ):
        found = [line.strip("- ") for line in test.splitlines() if line.startswith("-----")]
        sections = [f"frozen clock: {name}" for name in names] or ["frozen clock"]
        assert found == sections, test
    told = "The test moves this clock, and programs are on another: frozen_session_clock."
    assert (wrong.count(told), right.count(told), more.count(told)) == (1, 0, 0)
    assert "programs are on another: frozen_session_clock, node." in more
