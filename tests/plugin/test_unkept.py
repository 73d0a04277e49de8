"""What a test starts and does not see to is the clock's: nothing is said of it, nothing is left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

# As in the README: the object goes with the test's frame, with a helper's, or at once.
UNKEPT = """
import gc, os

def serve(clock, *, in_circle):
    script = "echo ready; exec sleep 1h"
    server = clock.popen(["sh", "-c", script], stdin=-1, stdout=-1, stderr=-1, text=True)
    if in_circle:
        server.itself = server
    assert server.stdout.readline() == "ready\\n"

@pytest.mark.parametrize("in_circle", [False, True])
@pytest.mark.parametrize("ends", [False, True])
def test_server(frozen_clock, in_circle, ends):
    serve(frozen_clock, in_circle=in_circle)
    gc.collect()
    assert [one.argv for one in frozen_clock.processes] == [["sleep", "1h"]]
    if ends:
        frozen_clock.advance(hours=2)
        gc.collect()
        assert not frozen_clock.processes

def test_kept_by_the_frame(frozen_clock):
    server = frozen_clock.popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def test_not_kept_at_all(frozen_clock):
    frozen_clock.popen(["sleep", "1h"])
    frozen_clock.popen(["true"])

@pytest.mark.frozen_time("2030-01-01")
def test_existing_code():
    subprocess.Popen(["sleep", "1h"], stdout=subprocess.PIPE)

def test_many(frozen_clock):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        program = frozen_clock.popen(["true"], stdout=subprocess.PIPE)
        program.stdout.read()
        while program.pid in [one.pid for one in frozen_clock.processes]:
            pass
    assert len(os.listdir("/proc/self/fd")) < before + 10
"""


def test_programs_that_nobody_keeps(run: Run) -> None:
    result = run(UNKEPT, "-Werror", "-v")
    result.assert_outcomes(passed=8)
    assert "Warning" not in result.stdout.str() + result.stderr.str()


# Each program's wait is due a second or two of real time after the program's end.
DUE_AFTER_THE_END = """
import signal, time

TIMERFD = '''
require "sys/syscall.ph";
$timer = syscall(&SYS_timerfd_create, 1, 0); $spec = pack("q4", 1, 0, 100, 0);
syscall(&SYS_timerfd_settime, $timer, 0, $spec, 0);
open(FILE, "<&=", $timer); sysread(FILE, $ticks, 8);
'''

@pytest.fixture(scope="module")
def clock(frozen_clock_factory):
    return frozen_clock_factory("2030-01-01", rate=1, monotonic="rate")

def ended_early(clock):
    programs = [clock.popen(["sleep", "100"]), clock.popen(["perl", "-e", TIMERFD])]
    clock.popen(["cat"], stdin=subprocess.PIPE)
    while len(clock.waits) < 1 or "timerfd" not in clock.describe():
        time.sleep(0.01)
    clock.advance(98)
    for program in programs:
        program.kill()
        assert program.wait() == -signal.SIGKILL

def test_clock_goes_on(clock):
    clock.rate = 1.5  # no timer is the kernel's to fire
    ended_early(clock)

def test_clock_is_closed():
    from pytest_vdsotime import FrozenClock
    with FrozenClock("2030-01-01", rate=1.5, monotonic="rate") as clock:
        ended_early(clock)

def test_next(frozen_clock):
    frozen_clock.run(["true"])
    time.sleep(1.7)
    frozen_clock.run(["true"])
"""


def test_nothing_expires_after_the_end(
    run: Run, pytester: pytest.Pytester, real_program: Callable[[str], str]
) -> None:
    """Not in the report of the test, nor in that of the next one."""
    real_program("perl")
    run(DUE_AFTER_THE_END, "--vdso-report=page.html").assert_outcomes(passed=3)
    page = (pytester.path / "page.html").read_text()
    stories = map(json.loads, re.findall(r'class="story">(.*?)</script>', page))
    gone: set[tuple[str, int]] = set()
    for story in stories:
        for clock in story["clocks"]:
            for kind, _, _, _, pid, *_, text in clock["events"]:
                assert (clock["id"], pid) not in gone, f"{story['name']}: {text}"
                if kind == "ended":
                    gone.add((clock["id"], pid))
    assert len(gone) == 8
