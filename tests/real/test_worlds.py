"""Where real time passes, goes by faster or stands still: how long a wait lasts in each world."""

from __future__ import annotations

import time
from collections.abc import Callable
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.real.conftest import Start

START = "2030-01-01T00:00:00Z"
CEILING_S = 30

Find = Callable[[str], str]


def real_seconds(clock: FrozenClock, command: list[str]) -> float:
    began = time.monotonic()
    clock.run(command, check=True, timeout=CEILING_S)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("parameters", "seconds"),
    [
        ({"rate": 60, "monotonic": "rate"}, "60"),
        ({"rate": 0.5, "monotonic": "rate"}, "0.5"),
        ({"rate": 60, "monotonic": "flow"}, "1"),  # sleep counts on the monotonic line
        ({}, "1"),
        ({"waits": "real", "monotonic": "freeze"}, "1"),
        ({"waits": "real", "rate": 60, "monotonic": "rate"}, "1"),
    ],
    ids=["rate-60", "rate-half", "wall-only", "flow", "real", "real-rate-60"],
)
def test_a_real_second(parameters: dict[str, Any], seconds: str) -> None:
    with FrozenClock(START, **parameters) as clock:
        assert 0.9 <= real_seconds(clock, ["sleep", seconds]) <= 5


def test_each_tool_at_sixty_times_its_speed(real_program: Find) -> None:
    script = 'timeout 20 sleep 1h; sleep 20; "$0" -e "select undef, undef, undef, 20"'
    with FrozenClock(START, rate=60, monotonic="rate") as clock:
        command = ["bash", "-c", script, real_program("perl")]
        assert 0.9 <= real_seconds(clock, command) <= 5
        assert 60 <= clock.time() - 1893456000 <= 300


def test_frozen_until_the_test_moves() -> None:
    with FrozenClock(START, monotonic="freeze") as clock:
        sleep = clock.popen(["sleep", "1"])
        with pytest.raises(TimeoutExpired):
            sleep.wait(1.5)
        clock.advance(0.999)
        assert sleep.poll() is None
        clock.advance(0.001)
        assert sleep.poll() == 0


def test_flowing_and_shortened() -> None:
    """Real time counts, and so does what the test adds."""
    with FrozenClock(START) as clock:
        sleep = clock.popen(["sleep", "1000"])
        clock.advance(998)
        assert sleep.poll() is None
        assert sleep.wait(CEILING_S) == 0


def test_two_clocks_are_advanced_apart() -> None:
    with FrozenClock(START) as one, FrozenClock(START) as two:
        sleeps = [clock.popen(["sleep", "3600"]) for clock in (one, two)]
        one.advance(hours=1)
        assert [sleep.poll() for sleep in sleeps] == [0, None]
        two.advance(hours=1)
        assert [sleep.poll() for sleep in sleeps] == [0, 0]


def test_the_rate_changes_during_a_wait() -> None:
    with FrozenClock(START, rate=1, monotonic="rate") as clock:
        sleep = clock.popen(["sleep", "3600"])
        clock.settle()
        clock.rate = 0
        with pytest.raises(TimeoutExpired):
            sleep.wait(0.2)
        clock.rate = 36_000
        assert sleep.wait(CEILING_S) == 0


# It waits until 01:00 on the wall clock; the wait returns when the clock is set, and not before.
UNTIL = """
use Time::HiRes qw(clock_nanosleep CLOCK_REALTIME CLOCK_MONOTONIC TIMER_ABSTIME clock_gettime);
$| = 1; print "ready\\n";
clock_nanosleep(%s, 1e9 * %s, TIMER_ABSTIME);
print "awake ", time - 1893456000, "\\n";
"""


@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
def test_setting_the_clock(monotonic: str, start: Start, real_program: Find) -> None:
    """What waits until a time of day wakes up, what waits for an hour does not."""
    perl = real_program("perl")
    until = [perl, "-e", UNTIL % ("CLOCK_REALTIME", "(1893456000 + 3600)")]
    monotone = [perl, "-e", UNTIL % ("CLOCK_MONOTONIC", "clock_gettime(CLOCK_MONOTONIC) + 3.6e12")]
    with FrozenClock(START, monotonic=monotonic) as clock:
        one, other = start(clock, until), start(clock, monotone)
        sleep = clock.popen(["sleep", "3600"])
        clock.move_to("2030-01-01T00:59:59Z")
        assert one.said() == []
        clock.move_to("2029-01-01T00:00:00Z")
        clock.move_to("2030-01-01T02:00:00Z")
        assert one.said() == ["awake 7200"]
        assert one.popen.poll() == 0
        assert [program.poll() for program in (other.popen, sleep)] == [None, None]


def test_root_sets_the_clock_for_the_others(
    as_root: None, start: Start, real_program: Find
) -> None:
    """The program that sets it is on the clock too."""
    until = UNTIL % ("CLOCK_REALTIME", "(1893456000 + 3600)")
    with FrozenClock(START) as clock:
        waits = start(clock, [real_program("perl"), "-e", until])
        clock.check_output(["date", "-u", "-s", "2030-01-01 01:00:00"], timeout=CEILING_S)
        clock.settle()
        assert waits.said() == ["awake 3600"]


# Each says when it woke up, once a minute. What it does then takes real time only.
AWAKE = 'use Time::HiRes qw(usleep); $| = 1; print "ready\\n"; my $next = time - time %% 60; %s'
LOOP = '$next += 60; sleep $next - time while time < $next; print time - $next, "\\n";'
MINUTES = {
    # Its sleeps are interrupted, and it goes on with what is left.
    "children": "$SIG{CHLD} = sub { 1 while waitpid(-1, 1) > 0 }; while (1) { %s fork or exit }",
    # A sleep of no time is one all the same.
    "zero": "while (1) { %s usleep 0; print time - $next, qq(\\n) }",
}


@pytest.mark.parametrize("name", MINUTES)
def test_no_minute_is_passed_over(name: str, start: Start, real_program: Find) -> None:
    """In one go and in many steps."""
    script = AWAKE % (MINUTES[name] % LOOP)
    lines = ["0"] * (2 if name == "zero" else 1)
    with FrozenClock(START, monotonic="freeze") as clock:
        program = start(clock, [real_program("perl"), "-e", script])
        clock.advance(hours=2)
        assert program.said() == lines * 120
        for _ in range(300):
            clock.advance(minutes=1)
            assert program.said() == lines
