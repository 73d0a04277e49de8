"""Time passes alike natively and in Python, as bare, and as it should: random programs of waits
have one log.

`helpers/waits_of` runs them; it explains their form.
"""

from __future__ import annotations

import errno
import heapq
import re
import subprocess
import tempfile
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from conftest import Builder

Examples = Callable[..., Callable[[Callable[..., None]], None]]

CEILING_S = 30
LONGEST_MS, MOST_STEPS, MOST_THREADS = 40, 6, 6
MS = 1_000_000
#: Of waits whose time is up; of others 0.
RESULTS = {
    **dict.fromkeys("fbrvxo", -errno.ETIMEDOUT),
    **dict.fromkeys("gm", -errno.EAGAIN),
    "t": 1,  # expirations
}
#: All of them end within this.
ALL_S = 2

waits = st.builds("{}{}".format, st.sampled_from("nupqsfbrgmetvxo"), st.integers(1, LONGEST_MS))
pokes = st.builds("k{}".format, st.integers(0, MOST_THREADS - 1))
polls = st.builds("w{}".format, st.integers(1, LONGEST_MS))


def programs(steps: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Command lines of so many threads, in one process or more."""
    thread = st.lists(steps, min_size=1, max_size=MOST_STEPS).map(",".join)
    processes = st.lists(
        st.lists(thread, min_size=1, max_size=3), min_size=1, max_size=MOST_THREADS // 3
    )
    return processes.map(lambda all_: " / ".join(map(" ".join, all_)).split())


FROZEN: dict[str, Any] = {"monotonic": "freeze", "grace": 0}
JUMPING: dict[str, Any] = {**FROZEN, "autojump": True}
TICKING: dict[str, Any] = {"rate": 1}


def log_of(build: Builder, program: list[str], world: dict[str, Any], is_native: bool) -> list[str]:
    """What the threads of a program note, sorted: those that go on at one instant race."""
    with (
        tempfile.NamedTemporaryFile("r") as log,
        closing(Tracer(is_native=is_native)) as tracer,
        clock_on(tracer, 0, **world) as clock,
    ):
        running = clock.popen([build.c("helpers/waits_of"), log.name, *program])
        if world is FROZEN:
            clock.settle(CEILING_S)
            clock.advance(ALL_S, timeout=CEILING_S)
        assert running.wait(CEILING_S) == 0
        return sorted(log)


class Simulation:
    """What `waits_of` would note if nothing but its waits took time.

    `is_race`: a thread is poked at the very instant at which its poll for that times out.
    """

    def __init__(self, program: list[str]) -> None:
        self.log: list[str] = []
        self.is_race = False
        steps = [word.split(",") for word in program if word != "/"]
        self._left = [deque(enumerate(each)) for each in steps]
        self._bytes = Counter[int]()
        self._polls: dict[int, tuple[int, int]] = {}
        """By thread: until when, and which step it is."""
        self._timed_out: dict[int, int] = {}
        """By thread: when its last poll did."""
        self._due = [(MS * (thread + 1), thread, -1, "", 0) for thread in range(len(steps))]
        """When, which thread, which of its steps, and the result."""
        while self._due:
            now_ns, thread, number, step, result = heapq.heappop(self._due)
            if step[:1] == "w":
                if self._polls.get(thread, (0, -1))[1] != number:
                    continue  # it was poked
                del self._polls[thread]
                self._timed_out[thread] = now_ns
            if step:
                self._note(now_ns, thread, number, result)
            self._go_on(now_ns, thread)
        self.log.sort()

    def _note(self, now_ns: int, thread: int, number: int, result: int) -> None:
        self.log.append(f"{thread} {number} {now_ns} {now_ns} {result}\n")

    def _go_on(self, now_ns: int, thread: int) -> None:
        while self._left[thread]:
            number, step = self._left[thread].popleft()
            ms = int(step[1:])
            if step[0] == "k":
                self._note(now_ns, thread, number, 1)
                self._poke(now_ns, ms)
            elif step[0] == "w" and self._bytes[thread]:
                self._bytes[thread] -= 1
                self._note(now_ns, thread, number, 1)
            else:
                until_ns = now_ns + ms * MS
                if step[0] == "w":
                    self._polls[thread] = until_ns, number
                event = (until_ns, thread, number, step, RESULTS.get(step[0], 0))
                heapq.heappush(self._due, event)
                return

    def _poke(self, now_ns: int, thread: int) -> None:
        self.is_race |= self._timed_out.get(thread) == now_ns
        if thread not in self._polls:
            self._bytes[thread] += 1
            return
        until_ns, number = self._polls.pop(thread)
        self.is_race |= until_ns == now_ns
        self._note(now_ns, thread, number, 1)
        self._go_on(now_ns, thread)


def fields(log: list[str]) -> dict[tuple[str, str], tuple[str, list[int]]]:
    """What a thread's step has returned, and when by both clocks."""
    lines = [line.split() for line in log]
    return {(a, b): (result, [int(one) for one in times]) for a, b, *times, result in lines}


@pytest.mark.long
def test_natively_in_python_and_simulated(build: Builder, examples: Examples) -> None:
    @examples(programs(waits | pokes | polls), count=10)
    def check(program: list[str]) -> None:
        count = sum(word != "/" for word in program)
        # There is a thread that it pokes.
        program = [re.sub(r"k(\d+)", lambda k: f"k{int(k[1]) % count}", one) for one in program]
        native, python = (log_of(build, program, FROZEN, is_native) for is_native in (True, False))
        assert native == python
        simulation = Simulation(program)
        assert simulation.is_race or native == simulation.log


@pytest.mark.long
def test_in_other_worlds_and_bare(build: Builder, examples: Examples) -> None:
    """What every call returns is the same, and nothing takes less time than on a frozen clock.

    In a jumping world work takes time, if a busy machine makes it long; in a ticking one all does.
    """

    @examples(programs(waits), count=10)
    def check(program: list[str]) -> None:
        frozen, *others = (
            fields(log_of(build, program, world, is_native))
            for world, is_native in (
                *((FROZEN, True), (JUMPING, True), (JUMPING, False)),
                *((TICKING, True), (TICKING, False)),
            )
        )
        with tempfile.NamedTemporaryFile("r") as log:
            command = [build.c("helpers/waits_of"), log.name, *program]
            subprocess.run(command, check=True, timeout=CEILING_S)
            others.append(fields(list(log)))
        for other in others:
            assert other.keys() == frozen.keys()
            for step, (result, times) in frozen.items():
                assert other[step][0] == result
                assert all(map(int.__ge__, other[step][1], times))
