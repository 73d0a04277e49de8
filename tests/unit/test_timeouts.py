"""Timeouts in every form that system calls have: each is read as the program wrote it, and what is
left is written as the kernel does.

`helpers/each_wait` makes the calls, all rows of waits.h; the clock stands still, so that every wait
is known to the nanosecond.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from subprocess import PIPE
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import strategies as st

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.popen import FrozenPopen
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from conftest import Builder

Examples = Callable[..., Callable[[Callable[..., None]], None]]

S, MS = 10**9, 10**6
CEILING_S = 30
EINTR = -4
MILLISECONDS, SOCKETS = 2, (4, 5)
RELATIVE = -1
NOTHING = 0
INTERRUPTS = 0


class Row(NamedTuple):
    """struct row of waits.h"""

    form: int
    clock: int
    parts: int
    writes_rest: int
    event: int
    handled: int
    expired: int
    ended: int
    name: str

    @property
    def is_sleep(self) -> bool:
        return self.event == NOTHING and not self.writes_rest and self.form != MILLISECONDS

    def length_ns(self, wanted_ns: int) -> int:
        """The nearest that the call can be told."""
        # The kernel rounds a socket's up to its ticks, of which this is a whole number at any HZ.
        unit_ns = {MILLISECONDS: MS, **dict.fromkeys(SOCKETS, 100 * MS)}.get(self.form, self.parts)
        longest_ns = (2**31 - 1) * MS if self.form == MILLISECONDS else wanted_ns
        return max(min(wanted_ns, longest_ns) // unit_ns, 1) * unit_ns


class Waiter:
    """The program, and what it can wait in."""

    def __init__(self, clock: FrozenClock, program: str) -> None:
        self.clock = clock
        self.running: FrozenPopen[str] = clock.popen(
            [program], stdin=PIPE, stdout=PIPE, text=True, bufsize=1
        )
        assert self.running.stdout
        self.rows = []
        for line in iter(self.running.stdout.readline, "\n"):
            *numbers, name = line.rstrip("\n").split(maxsplit=8)
            values = dict(zip(Row._fields, map(int, numbers), strict=False))
            self.rows.append(Row(name=name, **values))

    def say(self, order: str) -> None:
        assert self.running.stdin
        self.running.stdin.write(f"{order}\n")

    def result(self) -> tuple[int, int, int]:
        """What a call has returned, how long it was, and what it says is left."""
        self.say("r")
        assert self.running.stdout
        returned, took_ns, rest_ns = map(int, self.running.stdout.readline().split())
        return returned, took_ns, rest_ns

    def close(self) -> None:
        assert self.running.stdin and self.running.stdout
        self.running.stdin.close()
        assert self.running.wait(CEILING_S) in (0, -signal.SIGKILL)
        self.running.stdout.close()


TARGETS = ["static", "i386"] if os.uname().machine == "x86_64" else ["static"]


@pytest.fixture(params=TARGETS)
def program(request: pytest.FixtureRequest, build: Builder) -> str:
    return build.c("helpers/each_wait", request.param)


@pytest.fixture(params=[True, False], ids=["native", "python"])
def clock(request: pytest.FixtureRequest) -> Iterator[FrozenClock]:
    with (
        closing(Tracer(is_native=request.param)) as tracer,
        clock_on(tracer, "2030-01-01", monotonic="freeze", grace=0) as clock,
    ):
        yield clock


lengths = (
    st.integers(1, 2 * S) | st.integers(1, 2**53) | st.sampled_from([1, 999, S - 1, S, 10**15])
)


def check_one(waiter: Waiter, number: int, length_ns: int, part: float, order: str) -> None:
    clock = waiter.clock
    number %= len(waiter.rows)
    row = waiter.rows[number]
    length_ns = row.length_ns(length_ns)
    passed_ns = min(int(length_ns * part), length_ns - 1)
    clock.move_to("2030-01-01")  # 32-bit seconds end in 2038
    began_ns = clock.monotonic_ns() if row.clock in (RELATIVE, 1) else clock.time_ns()
    waiter.say(f"w {number} {length_ns}")
    clock.settle()
    for left_ns in (length_ns, length_ns - passed_ns):
        (wait,) = clock.waits
        assert wait.remaining == left_ns / S, row
        if row.clock in (RELATIVE, 0, 1):
            assert wait.deadline_ns == began_ns + length_ns, row
        if left_ns == length_ns:
            clock.advance(f"{passed_ns}ns")
    left_ns = length_ns - passed_ns
    rest_ns = left_ns // row.parts * row.parts if row.writes_rest else -1
    if order == "e" and row.event != NOTHING:
        waiter.say("e")
        returned, took_ns, told_ns = waiter.result()
        assert returned == row.ended or (row.ended < 0 <= returned), row
        assert (took_ns, told_ns) == (passed_ns, rest_ns), row
        return
    if order == "i":
        waiter.say("i")
        if row.handled == INTERRUPTS:
            if row.is_sleep and row.clock == RELATIVE:
                rest_ns = left_ns
            assert waiter.result() == (EINTR, passed_ns, rest_ns), row
            return
        clock.settle()
    clock.advance(f"{left_ns}ns")
    assert waiter.result() == (row.expired, length_ns, 0 if row.writes_rest else -1), row


def test_any_timeout(examples: Examples, clock: FrozenClock, program: str) -> None:
    """However much of it has passed when it is looked at, ends or is interrupted."""
    waiters = [Waiter(clock, program)]
    orders = st.sampled_from(["", "e", "i"])

    @examples(st.integers(0, 200), lengths, st.floats(0, 1), orders, count=60)
    def check(number: int, length_ns: int, part: float, order: str) -> None:
        try:
            check_one(waiters[0], number, length_ns, part, order)
        except BaseException:  # the next example finds nothing of this one
            waiters[0].running.kill()
            waiters[0].close()
            waiters[0] = Waiter(clock, program)
            raise

    waiters[0].close()
