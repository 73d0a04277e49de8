"""The plugin beside the others that people have: each does its work, and so does the clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., pytest.RunResult]
CEILING_S = 30

FROZEN = """
@pytest.mark.frozen_time("1970-01-01")
def test_frozen():
    assert year() == 1970
"""


def test_who_starts_programs(run: Run) -> None:
    """Neither imports Popen as the other does."""
    source = """
from xprocess import ProcessStarter

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.frozen_time("1970-01-01")

def test_xprocess(xprocess, frozen_clock):
    class Starter(ProcessStarter):
        pattern = "year 1970"
        args = ["sh", "-c", "date -u '+year %Y'; exec sleep 1d"]

    pid, _ = xprocess.ensure("server", Starter)
    assert pid in [process.pid for process in frozen_clock.processes]
    frozen_clock.advance(hours=25)
    assert pid not in [process.pid for process in frozen_clock.processes]

def test_pytester(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("import time\\ndef test_year(): assert time.gmtime().tm_year == 1970")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
"""
    run(source, plugins=["xprocess"]).assert_outcomes(passed=2)


FAKES = """
import asyncio
from asyncio.subprocess import PIPE

def faked(fp):
    fp.register(["faked"], stdout="faked")
    assert subprocess.check_output(["faked"], text=True).strip() == "faked"

def passed(fp):
    '''The year of a command that fp lets through.'''
    fp.pass_command(["date", "-u", "+%Y"])
    return int(subprocess.check_output(["date", "-u", "+%Y"]))

async def created(fp):
    fp.pass_command(["date", "-u", "+%Y"])
    program = await asyncio.create_subprocess_exec("date", "-u", "+%Y", stdout=PIPE)
    return int((await program.communicate())[0])

def test_fp_first(fp, frozen_clock):
    faked(fp)
    frozen_clock.move_to("1970-01-01")
    assert year_of(frozen_clock) == 1970
    program = frozen_clock.popen(["date", "-u", "+%Y"], stdout=subprocess.PIPE, text=True)
    assert program.communicate()[0] == "1970\\n"
    with frozen_clock.patch_subprocess():
        faked(fp)
        assert passed(fp) == 1970

@pytest.mark.frozen_time("1980-01-01")
def test_fp_passes(fp):
    faked(fp)
    assert passed(fp) == 1980
    assert asyncio.run(created(fp)) == 1980

@pytest.mark.frozen_time("1990-01-01")
def test_clock_first(frozen_clock, request):
    assert year() == 1990
    fp = request.getfixturevalue("fp")
    faked(fp)
    assert passed(fp) == year_of(frozen_clock) == 1990

def test_session_clock(fp, frozen_session_clock):
    frozen_session_clock.move_to("2000-01-01")
    faked(fp)
    assert passed(fp) == 2000

def test_without_fp(frozen_session_clock):
    assert year() == frozen_session_clock.now.year
    assert subprocess.Popen.__module__ == "subprocess"
"""
FAKE_TESTS = ("fp_first", "fp_passes", "clock_first", "session_clock", "without_fp")


@pytest.mark.parametrize("first", FAKE_TESTS)
def test_fake_programs(run: Run, first: str) -> None:
    """pytest-subprocess, in any order: what it fakes starts nothing, what it passes is on the
    clock, and the clock's own methods start real programs. The first test imports what starts
    programs, and so must not find the fake."""
    others = [name for name in FAKE_TESTS if name != first]
    tests = [f"test_fake_programs.py::test_{name}" for name in (first, *others)]
    result = run(FAKES, "-W", "error", *tests, plugins=["pytest-subprocess"])
    result.assert_outcomes(passed=5)


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_event_loops(run: Run, pytester: pytest.Pytester, plugin: str) -> None:
    if plugin == "asyncio":
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    source = f"""
import asyncio
import time
import anyio
from asyncio.subprocess import PIPE
pytestmark = [pytest.mark.{plugin}, pytest.mark.frozen_time("1970-01-01")]

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_own(frozen_clock):
    program = await frozen_clock.create_subprocess_shell("date -u +%Y; sleep 1h", stdout=PIPE)
    assert await program.stdout.readline() == b"1970\\n"
    await asyncio.to_thread(frozen_clock.advance, hours=1)
    assert await program.wait() == 0

async def test_patched():
    program = await asyncio.create_subprocess_exec("date", "-u", "+%Y", stdout=PIPE)
    assert (await program.communicate())[0] == b"1970\\n"
    done = await anyio.run_process(["date", "-u", "+%Y"])
    assert done.stdout == b"1970\\n"

@pytest.mark.frozen_time(python=True)
async def test_python():
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(0.001)
    assert asyncio.get_running_loop().time() > began
    assert time.gmtime().tm_year == 1970
"""
    run(source, "-W", "error", plugins=[plugin]).assert_outcomes(passed=3)


# Asks a server once a minute, and is busy until it has the answer.
ASKS = """
import socket, sys, time
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
server.setblocking(False)
while True:
    time.sleep(60)
    server.send(time.strftime("%H:%M ").encode())
    while True:
        try:
            server.recv(1)
            break
        except BlockingIOError:
            pass
"""


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_awaited_verbs(run: Run, pytester: pytest.Pytester, plugin: str) -> None:
    """Under each event loop that the plugin has, with a server in a fixture on the same loop."""
    if plugin == "asyncio":
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    source = f"""
import asyncio
import sys
import anyio
import pytest_asyncio
pytestmark = [pytest.mark.{plugin}, pytest.mark.frozen_time("1970-01-01", monotonic="freeze")]
LOOPS = [("asyncio", {{"use_uvloop": False}}), ("asyncio", {{"use_uvloop": True}}), "trio"]

if "{plugin}" == "anyio":
    @pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop", "trio"])
    def anyio_backend(request):
        return request.param

    @pytest.fixture
    async def server():
        asked = []
        async def answer(stream):
            async with stream:
                async for text in stream:
                    asked.append(text.decode())
                    await stream.send(b"!")
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, answer)
            yield listener.extra(anyio.abc.SocketAttribute.local_port), asked
            group.cancel_scope.cancel()
else:
    @pytest_asyncio.fixture
    async def server():
        asked, ended = [], asyncio.Event()
        async def answer(reader, writer):
            while text := await reader.read(10):
                asked.append(text.decode())
                writer.write(b"!")
            writer.close()
            ended.set()
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1], asked
            await ended.wait()

async def test_hour(frozen_clock, server):
    port, asked = server
    command = [sys.executable, "-Sc", {ASKS!r}, str(port)]
    asks = subprocess.Popen(command, env={{"TZ": "UTC"}})
    try:
        await frozen_clock.aio.settle()
        await frozen_clock.aio.advance(minutes=61, timeout=30)
        times = "".join(asked).split()
        assert len(times) == 61 and times[0] == "00:01" and times[-1] == "01:01"
        with anyio.move_on_after(0.2) as scope:
            await frozen_clock.aio.advance(days=2_000_000, timeout=30)
        assert scope.cancelled_caught
    finally:
        asks.kill()
        asks.wait()
"""
    done = run(source, "-W", "error", plugins=[plugin])
    done.assert_outcomes(passed=3 if plugin == "anyio" else 1)


@pytest.mark.parametrize("distribution", ["load", "loadgroup"])
def test_xdist(run: Run, distribution: str) -> None:
    source = """
@pytest.mark.xdist_group("together")
@pytest.mark.frozen_time("1970-01-01")
@pytest.mark.parametrize("number", range(4))
def test_grouped(number, frozen_clock):
    frozen_clock.advance(days=366 * number)
    assert year() == 1970 + number

@pytest.mark.xdist_group("together")
def test_last(frozen_clock):
    assert year_of(frozen_clock) == NOW == year()
"""
    run(source + FROZEN, "-n", "2", "--dist", distribution).assert_outcomes(passed=6)


def lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_timeout(run: Run, pytester: pytest.Pytester, method: str) -> None:
    """A test that waits for a program for ever: no program survives."""
    source = """
import pathlib

@pytest.mark.timeout(1, func_only=True)
@pytest.mark.frozen_time("1970-01-01", monotonic="freeze")
def test_hangs(frozen_clock):
    program = frozen_clock.popen(["sh", "-c", "sleep 1h & sleep 1h; wait"])
    frozen_clock.settle()
    pids = [str(process.pid) for process in frozen_clock.processes]
    assert len(pids) == 3
    pathlib.Path("pids").write_text(" ".join(pids))
    program.wait()
"""
    result = run(FROZEN + source, "--timeout-method", method)
    if method == "signal":
        result.assert_outcomes(failed=1, passed=1)
    else:  # it ends pytest
        assert result.ret == 1
    assert "Timeout" in result.stdout.str() + result.stderr.str()
    pids = pytester.path.joinpath("pids").read_text().split()
    deadline = time.monotonic() + CEILING_S  # the kernel kills them when their tracer has ended
    while (alive := [pid for pid in pids if lives(pid)]) and time.monotonic() < deadline:
        os.sched_yield()
    assert not alive


def test_reruns(run: Run) -> None:
    """Each has a clock of its own, at the start again."""
    source = """
runs = []

@pytest.mark.flaky(reruns=2)
@pytest.mark.frozen_time("1970-01-01")
def test_third_time(frozen_clock):
    runs.append(frozen_clock)
    assert year() == 1970 and len(frozen_clock.processes) == 0
    frozen_clock.popen(["sleep", "1d"])
    frozen_clock.advance(days=1000)
    assert len({*runs}) == 3
"""
    result = run(source, plugins=["rerunfailures"])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*2 rerun*"])


def test_coverage(run: Run, pytester: pytest.Pytester) -> None:
    """A Python child on the clock is measured."""
    pytester.makefile(".py", child="import time\nif time.gmtime().tm_year == 1970:\n    print()\n")
    pytester.makefile(".coveragerc", "[run]\npatch = subprocess\n")
    pytester.path.joinpath(".coveragerc").write_text("[run]\npatch = subprocess\n")
    source = """
import sys

@pytest.mark.frozen_time("1970-01-01")
def test_child():
    subprocess.run([sys.executable, "child.py"], check=True)
"""
    arguments = ["--cov=.", "--cov-report=term"]
    result = run(source, *arguments, plugins=["pytest_cov"])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["child.py * 3 * 0 * 100%"])


def test_durations_are_real(run: Run) -> None:
    source = """
@pytest.mark.frozen_time("1970-01-01")
def test_years(frozen_clock):
    program = frozen_clock.popen(["sleep", "30000d"])
    frozen_clock.advance(days=30000)
    assert program.wait() == 0

@pytest.mark.frozen_time("1970-01-01", python=True)
def test_python(frozen_clock):
    frozen_clock.advance(days=30000)
"""
    result = run(source, "--durations=0", "-vv", "--junitxml=junit.xml")
    result.assert_outcomes(passed=2)
    durations = [line.split("s ")[0] for line in result.outlines if "s call " in line]
    assert len(durations) == 2
    assert all(float(duration) < 30 for duration in durations)


def test_collecting_starts_nothing(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
import sys

def pytest_unconfigure():
    print("loaded:", *(name for name in sys.modules if name.startswith("pytest_vdsotime.")))
"""
    )
    result = run(
        FROZEN.replace("():", "(frozen_clock):"), "--collect-only", "--vdso-time=2000-01-01"
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*<Function test_frozen>", "loaded: *pytest_vdsotime.plugin*"])
    result.stdout.no_fnmatch_line("loaded: *.clock*")
    result.stdout.no_fnmatch_line("loaded: *.thread*")


def test_servers_of_many_tests(run: Run) -> None:
    """A fixture of broader scope has a clock of its own, which lasts as long and is in the report
    of every test."""
    source = """
from pytest_vdsotime import ClockClosed

def serve(frozen_clock_factory):
    clock = frozen_clock_factory("1970-01-01")
    with clock.patch_subprocess():
        reader = Reader()
        yield reader, clock
        reader.close()
    assert clock.now.year == 1973

@pytest.fixture(scope="session", autouse=True)
def behind_it():
    closed = []
    yield closed
    with pytest.raises(ClockClosed):
        closed[0].now

of_module = pytest.fixture(scope="module")(serve)
of_session = pytest.fixture(scope="session")(serve)

@pytest.fixture
def started():
    programs = []
    yield programs.append
    for program in programs:
        assert program.poll() is None
        program.kill()

def test_a_fixture_ends_what_was_started_on_a_clock_of_the_test(started, frozen_clock_factory):
    started(frozen_clock_factory().popen(["sleep", "1000"]))

@pytest.mark.parametrize("number", range(3))
def test_servers(of_session, of_module, number):
    for server, clock in (of_session, of_module):
        assert server.year() == 1970 + number
        clock.advance(days=366)

@pytest.mark.frozen_time("2001-01-01")
def test_beside_them(of_module, of_session, behind_it, frozen_clock_factory):
    assert (of_module[0].year(), year()) == (1973, 2001)
    behind_it.append(of_session[1])
    frozen_clock_factory("2002-01-01")
    assert False
"""
    result = run(source)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines_random([f"*{year}-01-0*" for year in (1973, 2001, 2002)])


def test_hypothesis(run: Run) -> None:
    """All examples of a test are on its clock."""
    source = """
from hypothesis import given, settings, strategies

@pytest.mark.frozen_time("1970-01-01")
@settings(max_examples=3, deadline=None, database=None)
@given(strategies.integers())
def test_examples(number):
    assert year() == 1970
"""
    run(source, plugins=["hypothesispytest"]).assert_outcomes(passed=1)
