"""What the clock costs a program, in ptrace stops; at each it gives up its processor."""

from __future__ import annotations

import time
from subprocess import PIPE
from typing import TYPE_CHECKING

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder

ROUNDS = 5  # anything else that it waits for, for once, does not count


def test_stops(build: Builder) -> None:
    """One at an exec, two at a wait that the test ends, beside its own sleep."""
    execs, waits = [], []
    with FrozenClock(0, monotonic="freeze") as clock:
        for _ in range(ROUNDS):
            program = clock.popen([build.c("helpers/stops")], stdout=PIPE, text=True)
            assert program.stdout
            execs.append(int(program.stdout.readline()))
            while not clock.waits:  # else its sleep may pass at once, at a single stop
                time.sleep(0.001)
            clock.advance(hours=1)
            output, _ = program.communicate()
            waits.append(int(output))
    assert (min(execs), min(waits)) == (1, 1 + 2)
