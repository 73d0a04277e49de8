"""Time passes alike natively and in Python, and as bare: random programs of waits have one log.

`helpers/waits_of` runs them; it explains their form.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30
LONGEST_MS, MOST_STEPS, MOST_THREADS = 40, 6, 6
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


alike = settings(
    database=None,
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def log_of(build: Builder, program: list[str], *, is_native: bool, jumps: bool) -> list[str]:
    """What the threads of a program note, sorted: those that go on at one instant race."""
    with (
        tempfile.NamedTemporaryFile("r") as log,
        closing(Tracer(is_native=is_native)) as tracer,
        clock_on(tracer, 0, monotonic="freeze", autojump=jumps, grace=0) as clock,
    ):
        running = clock.popen([build.c("helpers/waits_of"), log.name, *program])
        if not jumps:
            clock.settle(CEILING_S)
            clock.advance(ALL_S, timeout=CEILING_S)
        assert running.wait(CEILING_S) == 0
        return sorted(log)


def fields(log: list[str]) -> dict[tuple[str, str], tuple[str, list[int]]]:
    """What a thread's step has returned, and when by both clocks."""
    lines = [line.split() for line in log]
    return {(a, b): (result, [int(one) for one in times]) for a, b, *times, result in lines}


@pytest.mark.timeout(120)
def test_natively_and_in_python(build: Builder) -> None:
    @alike
    @given(programs(waits | pokes | polls))
    def check(program: list[str]) -> None:
        native, python = (
            log_of(build, program, is_native=is_native, jumps=False) for is_native in (True, False)
        )
        assert native == python

    check()


@pytest.mark.timeout(120)
def test_in_a_jumping_world_and_bare(build: Builder) -> None:
    """What every call returns is the same, and nothing takes less time than on a frozen clock.

    In a jumping world work takes time, if a busy machine makes it long.
    """

    @alike
    @given(programs(waits))
    def check(program: list[str]) -> None:
        frozen, *others = (
            fields(log_of(build, program, is_native=is_native, jumps=jumps))
            for is_native, jumps in ((True, False), (True, True), (False, True))
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

    check()
