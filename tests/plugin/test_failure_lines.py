"""Where a failure is shown: at the test's own line, with no line of the package below it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

# One mistake, or one failure, for each verb.
SOURCE = """
import asyncio, os
from pytest_vdsotime import FrozenClock

pytestmark = pytest.mark.frozen_time("2030-01-01", monotonic="freeze")

@pytest.fixture
def busy(frozen_clock):
    frozen_clock.popen(["perl", "-e", "1 while 1"])
    return frozen_clock

@pytest.fixture
def closed(frozen_clock_factory):
    clock = frozen_clock_factory()
    clock.run(["true"])
    clock.close()
    return clock

@pytest.fixture
def programs(frozen_clock):
    frozen_clock.run(["true"])
    return frozen_clock

@pytest.fixture
def zombie():
    pid = os.fork() or os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    os.waitpid(pid, 0)

def awaited(function, *args, **keywords):
    async def run():
        await function(*args, **keywords)
    asyncio.run(run())

def test_start(): FrozenClock("x")
def test_keyword(): FrozenClock(grace=-1)
def test_unknown(): FrozenClock(strid=1)
def test_factory(frozen_clock_factory): frozen_clock_factory(rate=-1)
def test_advance(frozen_clock): frozen_clock.advance(hour=1)
def test_negative(frozen_clock): frozen_clock.advance(-1)
def test_too_far(frozen_clock): frozen_clock.advance(days=365 * 9000)
def test_too_far_with_programs(programs): programs.advance(days=365 * 9000)
def test_stride(frozen_clock): frozen_clock.advance(1, stride=0)
def test_jump(frozen_clock): frozen_clock.jump("x")
def test_timeout(frozen_clock): frozen_clock.settle(0)
def test_move_to(frozen_clock): frozen_clock.move_to("x")
def test_rate(frozen_clock): frozen_clock.rate = -1
def test_attach(frozen_clock): frozen_clock.attach(2**22 + 1)
def test_attach_twice(busy): busy.attach(busy.processes[0].pid)
def test_attach_refused(frozen_clock, zombie): frozen_clock.attach(zombie)
def test_popen(frozen_clock): frozen_clock.popen(["no-such-program"])
def test_popen_keyword(frozen_clock): frozen_clock.popen(["true"], nope=1)
def test_popen_type(frozen_clock): frozen_clock.popen(["true"], bufsize="x")
def test_preexec_fn(frozen_clock): frozen_clock.popen(["true"], preexec_fn=lambda: 1 / 0)
def test_run(frozen_clock): frozen_clock.run(["no-such-program"])
def test_run_check(frozen_clock): frozen_clock.run(["false"], check=True)
def test_run_timeout(frozen_clock): frozen_clock.run(["sleep", "1h"], timeout=0.1)
def test_call(frozen_clock): frozen_clock.call(["no-such-program"])
def test_check_call(frozen_clock): frozen_clock.check_call(["false"])
def test_check_output(frozen_clock): frozen_clock.check_output(["false"])
def test_communicate(busy): busy.popen(["sleep", "1h"], stdout=-1).communicate(timeout=0.1)
def test_wait(frozen_clock): frozen_clock.popen(["sleep", "1h"]).wait(timeout=0.1)
def test_exec(frozen_clock): awaited(frozen_clock.create_subprocess_exec, "no-such-program")
def test_shell(closed): awaited(closed.create_subprocess_shell, "true")
def test_busy(busy): busy.advance(1, timeout=0.1)
def test_busy_settle(busy): busy.settle(0.1)
def test_now(closed): closed.now
def test_time(closed): closed.time()
def test_monotonic(closed): closed.monotonic_ns()
def test_waits(closed): closed.waits
def test_processes(closed): closed.processes
def test_next(closed): closed.advance_to_next()
def test_closed(closed): closed.popen(["true"])

@pytest.fixture
def fails_itself(frozen_clock_factory):
    return frozen_clock_factory("x")

def test_fixture(fails_itself): pass
"""


@pytest.mark.parametrize("style", ["auto", "short"])
def test_the_traceback_ends_at_the_tests_line(
    run: Run, real_program: Callable[[str], str], style: str
) -> None:
    real_program("perl")
    output = run(SOURCE, f"--tb={style}", "-rN", "--show-capture=no").stdout.str()
    tests = SOURCE.count("def test_")
    failures = re.split(r"(?m)^_{3,} (?:ERROR at setup of )?(test_\w+) _{3,}$", output)[1:]
    assert len(failures) == 2 * tests
    for name, text in zip(failures[::2], failures[1::2], strict=True):
        places = re.findall(r"(?m)^(\S+\.py):\d+:(?: in | \w+|$)", text)
        others = [one for one in places if not one.startswith("test_the_traceback")]
        is_async = name in ("test_exec", "test_shell")
        assert places and all("/asyncio/" in one and is_async for one in others), (name, others)


def test_all_is_there_for_who_asks(run: Run) -> None:
    source = "def test_mistake(frozen_clock): frozen_clock.advance(hour=1)"
    run(source, "--full-trace").stdout.fnmatch_lines(["*pytest_vdsotime/instants.py:*"])


def test_a_fault_of_the_package_shows_its_place(run: Run) -> None:
    source = """
from pytest_vdsotime import instants
def test_fault(frozen_clock, monkeypatch):
    monkeypatch.setattr(instants, "parse_delta", lambda *_: {}["x"])
    frozen_clock.advance(1)
"""
    run(source, "--tb=short").stdout.fnmatch_lines(["*pytest_vdsotime/clock.py:*: in advance"])


# A program that asks for a leap second, which warns.
LEAP = """
import sys
SCRIPT = '''
import ctypes
timex = (ctypes.c_int * 256)()
timex[0], timex[10] = 0x10, 0x10  # modes = ADJ_STATUS, status = STA_INS (adjtimex(2))
ctypes.CDLL(None).adjtimex(timex)
input()
'''
COMMAND = [sys.executable, "-c", SCRIPT]

def test_run(frozen_clock):
    frozen_clock.run(COMMAND, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # here

def test_settle(frozen_clock):
    program = frozen_clock.popen(COMMAND, stdin=subprocess.PIPE)
    while not any("python" in one.argv[0] and one.has_read_clock for one in frozen_clock.processes):
        pass
    frozen_clock.settle()  # here

@pytest.mark.frozen_time(0)
def test_patched():
    subprocess.run(COMMAND, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # here
"""


def test_a_warning_has_the_tests_line(run: Run, pytester: pytest.Pytester, as_root: None) -> None:
    result = run(LEAP)
    result.assert_outcomes(passed=3, warnings=3)
    lines = result.stdout.str().splitlines()
    lines_of_file = next(pytester.path.glob("test_*.py")).read_text().splitlines()
    places = [line for line in lines if re.search(r"\.py:\d+: RealTimeWarning", line)]
    expected = [number for number, line in enumerate(lines_of_file, 1) if line.endswith("# here")]
    assert [int(line.split(":")[1]) for line in places] == expected
    assert all("test_a_warning_has_the_tests_line.py:" in line for line in places)
