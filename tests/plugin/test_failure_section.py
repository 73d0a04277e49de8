"""What a failing test is told of its clocks: the texts themselves.

One run of pytest has all the failures, on a worker of pytest-xdist, which sends its reports as
data. What differs from run to run is replaced: ids by letters in their order, real times by R.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock, faults

SOURCE = """
from pytest_vdsotime import FrozenClock

pytestmark = pytest.mark.frozen_time("2030-01-01", monotonic="freeze")

def test_waits(frozen_clock):
    job = frozen_clock.popen(["sh", "-c", "sleep 1h; exit 3"])
    frozen_clock.settle()
    frozen_clock.advance(minutes=20)
    frozen_clock.move_to("2031-01-01")
    assert job.wait(timeout=0.1) == 3

def test_ended(frozen_clock):
    job = frozen_clock.popen(["sh", "-c", "sleep 1h; exit 3"])
    frozen_clock.advance(hours=1)
    assert job.wait() == 0

def test_what_is_waited_for(frozen_clock):
    subprocess.Popen(["perl", "-e", "time; <STDIN>"], stdin=subprocess.PIPE)
    subprocess.Popen(["perl", "-e", PERL])
    frozen_clock.settle()
    assert frozen_clock.waits == []

def test_timers(frozen_clock):
    subprocess.Popen(["perl", "-e", "use POSIX; alarm 3600; pause"])
    subprocess.Popen(["perl", "-e", TIMERFD])
    frozen_clock.settle()
    assert not frozen_clock.processes

def test_busy(frozen_clock):
    subprocess.Popen(["perl", "-e", "1 while 1"])
    frozen_clock.advance(1, timeout=0.1)

def test_own_clock_is_closed_by_the_failure():
    with FrozenClock(0, monotonic="freeze") as clock:
        clock.popen(["cat"], stdin=subprocess.PIPE)
        clock.settle()
        clock.rate = 0
        clock.move_to(60)
        raise RuntimeError

def test_closed_before():
    clock = FrozenClock("1970-01-01", monotonic="freeze")
    clock.run(["sh", "-c", "kill -9 $$"])
    clock.close()
    clock.popen(["true"])

def test_no_program(frozen_clock_factory):
    frozen_clock_factory(0).advance(60)
    assert False

def test_traces(frozen_clock):
    traceme = 'require "sys/syscall.ph"; syscall(&SYS_ptrace, 0, 0, 0, 0); exit 1'
    assert frozen_clock.call(["perl", "-e", traceme]) == 0

def test_again_and_again(frozen_clock):
    loop = frozen_clock.popen(["sh", "-c", "while sleep 1; do :; done"])
    frozen_clock.settle()
    frozen_clock.advance(minutes=10)
    for _ in range(20):
        frozen_clock.advance(1)
    frozen_clock.move_to("2031-01-01")
    loop.kill()
    assert loop.wait() == 0

def test_much_more(frozen_clock):
    frozen_clock.popen(["perl", "-e", "select undef, undef, undef, 0.1 while 1"])
    frozen_clock.advance(hours=1)
    assert False

def test_title(frozen_clock):
    title = "$0 = 'a title'; $| = 1; print 1; <STDIN>"
    program = frozen_clock.popen(["perl", "-e", title, "", "", ""], stdin=-1, stdout=-1)
    program.stdout.read(1)
    while open(f"/proc/{program.pid}/syscall").read().startswith("running"):
        time.sleep(0.001)
    assert False

KEPT = []

def test_keeps_its_clock(frozen_clock, frozen_clock_factory):
    frozen_clock.run(["true"])
    KEPT[:] = [frozen_clock, frozen_clock_factory(0, monotonic="freeze")]
    KEPT[1].run(["true"])

def test_clock_of_another_test():
    kept = KEPT[0]
    kept.advance(1)

def test_clock_of_another_tests_factory():
    kept = KEPT[1]
    kept.advance(1)

@pytest.fixture(scope="class")
def server(frozen_clock_factory):
    clock = frozen_clock_factory("2030-01-01", monotonic="freeze")
    clock.run(["true"])
    KEPT[:] = [clock]

class TestServer:
    def test_server(self, server):
        pass

def test_clock_of_an_ended_fixture():
    kept = KEPT[0]
    assert kept.run(["true"])

def test_failed_tracer(frozen_clock):
    frozen_clock.popen(["sleep", "1h"])
    with faults.injected("loop", lambda _: 1 / 0):
        while True:
            frozen_clock.processes
"""
PERL = """
use Time::HiRes qw(clock_nanosleep CLOCK_REALTIME TIMER_ABSTIME);
clock_nanosleep(CLOCK_REALTIME, 1e9 * 1893459600, TIMER_ABSTIME);
"""
# at a time, then every minute
TIMERFD = """
require "sys/syscall.ph";
$timer = syscall(&SYS_timerfd_create, 0, 0); $spec = pack("q4", 60, 0, 1893459600, 0);
syscall(&SYS_timerfd_settime, $timer, 1, $spec, 0);
open(FILE, "<&=", $timer); sysread(FILE, $ticks, 8);
"""


CEILING_S = 20
EXPECTED = Path(__file__).with_name("failure_sections.txt")


def normalized(text: str) -> str:
    """Without what differs from run to run; events that happen at the same virtual time in the
    order of their words."""
    letters = map(chr, count(ord("A")))
    ids: dict[str, str] = {}

    def letter(match: re.Match[str]) -> str:
        if match[0] not in ids:
            ids[match[0]] = next(letters)
        return ids[match[0]]

    text = text.replace("a signal (ppoll)", "a signal (pause)")  # there is no pause(2) on arm64
    text = re.sub(r"(?<=pid )\d+|(?<=pipe:\[)\d+", letter, text)
    lines = [
        re.sub(r"^(  \d{4}-\S+Z +\S+) +\d+\.\d{3}", r"\1    R", line) for line in text.splitlines()
    ]
    # How many are remembered depends on the parts in which they have come.
    lines = [
        re.sub(r"^  (\d{4}-).*(  R .*, x )\d+( or more)", r"  \1...\2N\3", line) for line in lines
    ]
    events = sorted(line for line in lines if re.match(r"  \d{4}-", line))
    others = [line for line in lines if not re.match(r"  \d{4}-", line)]
    return "\n".join([*others, *events])


def sections(output: str) -> dict[str, str]:
    """By test, what stands below its headline `frozen clock` (and a number)."""
    found: dict[str, str] = {}
    for one in re.split(r"(?m)^_{2,} (?=[\w. ]+ _{2,}$)", output)[1:]:
        name, _, text = one.partition(" _")
        for part in re.split(r"(?m)^-{2,} (?=frozen clock)", text)[1:]:
            headline, _, rest = part.partition(" -")
            body = re.split(r"(?m)^[-=]{4,} ", rest.partition("\n")[2])[0]
            found[f"{name}: {headline}"] = normalized(body)
    return found


@pytest.fixture
def output(
    pytester: pytest.Pytester, real_program: Callable[[str], str], alone: Callable[..., list[str]]
) -> str:
    prelude = f"""
import subprocess
import pytest
from pytest_vdsotime import faults
PERL = {PERL!r}
TIMERFD = {TIMERFD!r}
"""
    real_program("perl")
    pytester.makepyfile(prelude + SOURCE)
    command = [sys.executable, "-m", "pytest", *alone(), "-n", "1", "--tb=short", "-rN"]
    return str(pytester.run(*command, f"--basetemp={pytester.path}/b", timeout=150).stdout)


def test_a_tracer_that_does_not_answer() -> None:
    """The test does not wait for the tracer for long, whatever the tracer does."""
    is_held, goes_on = threading.Event(), threading.Event()
    others = {thread.ident for thread in threading.enumerate()}  # tracers of other clocks too

    def hold(_pid: int) -> None:
        if threading.get_ident() not in others:
            is_held.set()
            goes_on.wait(CEILING_S)

    with FrozenClock(0, monotonic="freeze") as clock:
        _sleep = clock.popen(["sleep", "1h"])
        with ThreadPoolExecutor(1) as pool, faults.injected("loop", hold):
            settled = pool.submit(clock.settle)
            assert is_held.wait(CEILING_S)
            told = clock.describe(events=2)
            goes_on.set()
            settled.result(CEILING_S)
    assert "programs        unknown: the tracer has not answered for 2 s" in told
    assert "the test starts sleep 1h" in told


@pytest.mark.parametrize(
    ("parameters", "is_hinted"),
    [
        ({}, True),
        ({"monotonic": "freeze"}, True),
        ({"monotonic": "rate"}, True),
        ({"monotonic": "freeze", "rate": 1}, True),
        ({"rate": 1}, False),
        ({"monotonic": "rate", "rate": 1}, False),
        ({"autojump": 3600}, False),
        ({"waits": "real", "monotonic": "freeze"}, False),
    ],
    ids=str,
)
def test_the_hint_is_for_a_line_that_stands(parameters: dict[str, Any], is_hinted: bool) -> None:
    with FrozenClock("2030-01-01", **parameters) as clock:
        clock.popen(["sleep", "2h"])
        clock.settle()
        told = clock.describe()
    assert "sleep 2h" in told
    assert ("The next deadline is " in told) == is_hinted
    assert ("away: advance() by that much, or advance_to_next(), has it come." in told) == is_hinted


@pytest.mark.long
def test_sections(output: str) -> None:
    told = "".join(f"== {name}\n{text}\n" for name, text in sections(output).items())
    assert told == EXPECTED.read_text()
