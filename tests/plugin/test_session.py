"""The session as a whole: header, workers, collection, what an unused plugin costs, its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., pytest.RunResult]

FROZEN = """
@pytest.mark.frozen_time("1970-01-01")
def test_frozen():
    assert year() == 1970
"""


@pytest.mark.parametrize(
    ("option", "ini", "shown"),
    [
        ([], "", "now"),
        ([], "vdso_time = 2038-01-19 03:14:07", "2038-01-19T03:14:07Z"),
        (["--vdso-time=@0"], "vdso_time = 2038-01-19", "1970-01-01T00:00:00Z"),
        (["--vdso-time=1970-01-01T02:00+02:00"], "", "1970-01-01T00:00:00Z"),
    ],
)
def test_header(
    run: Run, pytester: pytest.Pytester, option: list[str], ini: str, shown: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    result = run(FROZEN, *option)
    machine = os.uname().machine
    kinds = "x86_64, i386" if machine == "x86_64" else machine
    result.stdout.fnmatch_lines([f"vdsotime: {shown}, ptrace ok ({kinds})"])
    result.assert_outcomes(passed=1)


def test_toml_dates(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\nvdso_time = 1970-01-01T00:00:00Z")
    result = run("def test_ini(frozen_clock):\n    assert year_of(frozen_clock) == 1970")
    result.assert_outcomes(passed=1)


def test_markers_are_registered(run: Run) -> None:
    run(FROZEN, "--strict-markers").assert_outcomes(passed=1)
    run(FROZEN, "--markers").stdout.fnmatch_lines(["@pytest.mark.frozen_time(start=None, *"])


def test_fixtures_are_documented(run: Run) -> None:
    result = run(FROZEN, "--fixtures")
    result.stdout.fnmatch_lines(
        ["frozen_clock -- *", "frozen_session_clock * -- *", "frozen_clock_factory * -- *"]
    )
    result.stdout.no_fnmatch_line("_vdsotime*")


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan"])
def test_nothing_starts_without_tests(run: Run, option: str) -> None:
    result = run("def test_plain(frozen_clock): pass" + FROZEN, option, "--vdso-time=1970-01-01")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_frozen*"])


def test_workers_have_the_option(run: Run) -> None:
    source = """
import os

@pytest.fixture(scope="session")
def server():
    reader = Reader()
    yield reader
    reader.close()

@pytest.mark.parametrize("number", range(8))
def test_on_a_worker(number, server):
    assert "PYTEST_XDIST_WORKER" in os.environ
    assert (year(), server.year()) == (2002, 2002)
"""
    run(source + FROZEN, "-n", "2", "--vdso-time=2002-06-01").assert_outcomes(passed=9)


def test_it_warns_of_nothing(run: Run) -> None:
    run(FROZEN, "-W", "error", "--vdso-time=2002-06-01").assert_outcomes(passed=1)


def test_without_the_plugin(run: Run) -> None:
    run("def test_plain(): pass", "-p", "no:vdsotime").assert_outcomes(passed=1)


HEAVY = ["pytest_vdsotime.clock", "pytest_vdsotime.timeline", "ptrace"]


def test_an_unused_plugin_loads_nothing_heavy(run: Run, pytester: pytest.Pytester) -> None:
    source = f"""
import sys

def test_light():
    assert "pytest_vdsotime.plugin" in sys.modules
    assert not sys.modules.keys() & set({HEAVY})
    assert not any(thread.name.startswith("vdsotime") for thread in threads())

def threads():
    import threading
    return threading.enumerate()
"""
    run(source).assert_outcomes(passed=1)


def test_a_clock_without_programs_is_light(run: Run) -> None:
    """What traces is loaded by the first test that starts a program, and so is asyncio by its own
    user, who finds its programs on the clock all the same."""
    source = """
import sys
import threading

HEAVY = ["ptrace", "pytest_vdsotime.image", "asyncio.unix_events", "pytest_vdsotime.tracer"]

@pytest.mark.frozen_time("1970-01-01")
def test_light(frozen_clock, frozen_session_clock, frozen_clock_factory):
    frozen_clock.advance(days=366)
    frozen_session_clock.advance(1)
    frozen_clock_factory().advance(1)
    assert frozen_clock.now.year == 1971
    assert not sys.modules.keys() & {*HEAVY, "multiprocessing.util", "pytest_vdsotime.popen"}
    assert not any(thread.name.startswith("vdsotime") for thread in threading.enumerate())
    # as it was installed, not with asserts that pytest has rewritten
    assert type(sys.modules["pytest_vdsotime.session"].__loader__).__name__ == "SourceFileLoader"

async def year_by_asyncio():
    import asyncio
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec("date", "-u", "+%Y", stdout=pipe)
    return int((await program.communicate())[0])

@pytest.mark.frozen_time("1970-01-01")
def test_first_program(frozen_session_clock):
    import asyncio
    assert asyncio.run(year_by_asyncio()) == year() == 1970
    assert sys.modules.keys() >= {*HEAVY}

def test_session(frozen_session_clock):
    import asyncio
    frozen_session_clock.move_to("1980-01-01")
    assert asyncio.run(year_by_asyncio()) == year() == 1980

@pytest.mark.frozen_time("1990-01-01")
def test_first_spawned_process():
    assert "multiprocessing.util" not in sys.modules
    import multiprocessing
    import time
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(time.gmtime).tm_year == 1990
        pool.close()
        pool.join()
"""
    run(source).assert_outcomes(passed=4)


def test_one_tracer_serves_the_session_and_ends_with_it(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
import atexit
import threading

def tracers():
    return [thread for thread in threading.enumerate() if thread.name == "vdsotime-tracer"]

def pytest_sessionfinish(session):
    print("tracers:", len(tracers()))

atexit.register(lambda: print("left:", len(tracers())))
"""
    )
    source = """
def test_first(frozen_clock, frozen_clock_factory):
    assert year_of(frozen_clock) == year_of(frozen_clock_factory())

def test_second(frozen_clock):
    assert year_of(frozen_clock) == NOW
"""
    result = run(source + FROZEN, "-s")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*tracers: 1", "left: 0"])


# A program that is killed after the last call on its clock.
KILLED = """
from pytest_vdsotime import faults

def fail(_pid):
    raise OSError("for a test")

def have_one_killed(clock):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    program = clock.popen(["sh", "-c", "read line; exec sleep 1000"], **pipes)
    with faults.injected("entry EXEC", fail), faults.injected("stop EXEC", fail):
        program.stdin.write(bytes([10]))
        program.stdin.flush()
        assert program.stdout.read() == b""
"""


def test_what_a_clock_says_at_its_end_is_said_of_its_test(run: Run) -> None:
    """Of programs that were killed since the last call."""
    source = """
def test_killed(frozen_clock):
    have_one_killed(frozen_clock)

def test_factory(frozen_clock_factory):
    have_one_killed(frozen_clock_factory())
    have_one_killed(frozen_clock_factory())

def test_next(frozen_clock):
    assert year_of(frozen_clock) == NOW
"""
    result = run(KILLED + source)
    result.assert_outcomes(passed=3, errors=2)
    killed = "*UnsupportedProgram: handling a stop (EXEC) of */sleep (pid *: for a test*"
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_killed*",
            killed,
            "*ERROR at teardown of test_factory*",
            killed,
        ]
    )


def test_a_warning_at_the_end_of_a_clock(run: Run, as_root: None) -> None:
    """Of one of its clocks, whose program asks for a leap second, beside the error of another."""
    source = """
import sys

LEAP = '''
import ctypes
timex = (ctypes.c_int * 256)()
timex[0], timex[10] = 0x10, 0x10  # modes = ADJ_STATUS, status = STA_INS (adjtimex(2))
ctypes.CDLL(None).adjtimex(timex)
print("ready", flush=True)
input()
'''

def have_one_that_asks(clock):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    program = clock.popen([sys.executable, "-c", LEAP], **pipes)
    assert program.stdout.readline().strip() == b"ready"

def test_factory(frozen_clock_factory):
    have_one_killed(frozen_clock_factory())
    have_one_that_asks(frozen_clock_factory())
"""
    result = run(KILLED + source)
    result.assert_outcomes(passed=1, errors=1, warnings=1)
    result.stdout.fnmatch_lines(["*RealTimeWarning: *leap second*"])


# Where nothing can be traced.

ASKS = """
import os

def test_plain():
    pass

@pytest.mark.frozen_time("1970-01-01")
def test_no_program(frozen_clock, frozen_clock_factory, frozen_session_clock):
    frozen_clock.advance(hours=1)
    assert frozen_clock.now.isoformat() == "1970-01-01T01:00:00+00:00"
    frozen_clock.move_to("2038-01-19")
    frozen_clock.rate = 1
    frozen_clock.settle()
    assert frozen_clock.advance_to_next() is None
    assert frozen_clock.waits == frozen_clock.processes == []
    assert "no program was started on it" in frozen_clock.describe()
    assert frozen_clock_factory(0).now.year == 1970
    frozen_session_clock.jump(days=1)

@pytest.mark.frozen_time("1970-01-01")
def test_marked():
    year()

@pytest.mark.frozen_time("1970-01-01")
def test_system():
    os.system("true")

@pytest.mark.frozen_time("1970-01-01")
def test_fork():
    if not os.fork():
        os._exit(0)

def test_fixture(frozen_clock):
    year_of(frozen_clock)

def test_factory(frozen_clock_factory):
    frozen_clock_factory().popen(["true"])

def test_session():
    year()  # on the session's clock, since the first test

@pytest.fixture
def started(request):
    return year_of(request.getfixturevalue("frozen_clock"))

def test_set_up(started):
    pass

async def create(clock):
    await clock.create_subprocess_exec("true")

def test_asyncio(frozen_clock):
    import asyncio
    asyncio.run(create(frozen_clock))

class TestOwnFixture:
    @pytest.fixture
    def frozen_clock(self):
        return "something else"

    def test_own(self, frozen_clock):
        assert frozen_clock == "something else"
"""


def assert_unavailable(result: pytest.RunResult, policy: str, reason: str) -> None:
    """Only the tests that start programs ended, each with one line."""
    count = {"errors": 1, "failed": 7} if policy == "error" else {"skipped": 8}
    result.assert_outcomes(passed=3, **count)
    place = "SKIPPED*vdsotime: " if policy == "skip" else "E   *TracingUnavailable: "
    result.stdout.fnmatch_lines([f"{place}{reason}"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*During handling*")


@pytest.fixture(params=["error", "skip"])
def policy(request: pytest.FixtureRequest, pytester: pytest.Pytester) -> str:
    pytester.makeini(f"[pytest]\nvdso_unavailable = {request.param}")
    return str(request.param)


def test_not_on_linux(run: Run, pytester: pytest.Pytester, policy: str) -> None:
    pytester.makeconftest("import sys\nsys.platform = 'plan9'")
    # hypothesis does not know that system either.
    result = run(ASKS, "-rsE", "-vv", "-s", "-pno:hypothesispytest")
    assert_unavailable(result, policy, "tracing programs needs Linux, and this is plan9; run*")
    result.stdout.fnmatch_lines(["vdsotime: now, unavailable: tracing programs needs Linux, *"])


def test_a_bad_start_is_one_everywhere(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys\nsys.platform = 'plan9'")
    assert run(ASKS, "--vdso-time=soon").ret == pytest.ExitCode.USAGE_ERROR


def test_traced_already(run: Run, policy: str, real_program: Callable[[str], str]) -> None:
    strace = [real_program("strace"), "-f", "-e", "trace=none", "-o", "/dev/null"]
    result = run(ASKS, "-rsE", "-vv", "-s", under=strace)
    assert_unavailable(result, policy, "this process is traced by strace (pid *; run it without*")
    result.stdout.fnmatch_lines(["vdsotime: now, unavailable: this process is traced by strace *"])


def test_a_sandbox_that_refuses(run: Run, policy: str) -> None:
    sandbox = [sys.executable, str(Path(__file__).with_name("refuse_calls.py")), "ptrace"]
    result = run(ASKS, "-rsE", "-vv", "-s", under=sandbox)
    reason = "PTRACE_SEIZE*Operation not permitted*sandbox (seccomp)*--cap-add=SYS_PTRACE*"
    assert_unavailable(result, policy, reason)
