"""Deadlines of one instant come in the order in which they were set, each time alike.

`make stress` runs these very often: VDSOTIME_STRESS says how often.
"""

from __future__ import annotations

import os
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30
RUNS = int(os.environ.get("VDSOTIME_STRESS", "2"))
LONG_RUNS_S = 180 + 10 * RUNS


def logs_of(command: list[str], log: Path, step_s: float) -> dict[str, int]:
    """How often each log was written in all runs, in each of which time passes in such steps."""
    found: dict[str, int] = {}
    for _ in range(RUNS):
        log.unlink(missing_ok=True)
        with FrozenClock(0, monotonic="freeze") as clock:
            program = clock.popen([*command, str(log)])
            clock.settle(CEILING_S)
            while program.poll() is None and clock.time() < 2000:
                clock.advance(step_s, timeout=CEILING_S)
            assert program.wait(CEILING_S) == 0
        text = log.read_text()
        found[text] = found.get(text, 0) + 1
    return found


@pytest.mark.timeout(LONG_RUNS_S)
@pytest.mark.parametrize("step_s", [2000, 7.5])
def test_five_processes(build: Builder, tmp_path: Path, step_s: float) -> None:
    """With threads among them, and 500 deadlines."""
    found = logs_of([build.c("helpers/ordered")], tmp_path / "log", step_s)
    for log in found:
        lines = log.splitlines()
        times = [float(line.split()[0]) for line in lines]
        assert len(lines) == 500
        assert times == sorted(times)
        assert len(set(times)) < 100
    assert list(found.values()) == [RUNS]


SHELLS = """
for period in 1 2 3; do
    sleep 0.$period
    (for i in $(seq $((12 / period))); do sleep $period; echo $period.$i >> "$0"; done) &
done
wait
"""


@pytest.mark.timeout(LONG_RUNS_S)
def test_three_loops_in_a_shell(tmp_path: Path) -> None:
    """Their deadlines never meet but in the end: each began at a time of its own."""
    command = ["bash", "-c", SHELLS]
    assert list(logs_of(command, tmp_path / "log", 100).values()) == [RUNS]


@pytest.mark.timeout(LONG_RUNS_S)
def test_a_timer_and_a_sleep_of_one_instant(build: Builder) -> None:
    """The program has a periodic timer besides: no sleep ends early because of that."""
    command = [build.c("helpers/each_time"), "sleep", "1"]
    for _ in range(RUNS):
        with FrozenClock(0, monotonic="freeze") as clock:
            program = clock.popen(command, stdout=PIPE, text=True)
            clock.settle()
            clock.advance(500)
            program.kill()
            output = program.communicate(timeout=CEILING_S)[0]
        times = [int(line.split()[0]) / 10**9 for line in output.splitlines()]
        assert times == [float(second) for second in range(1, 501)]
