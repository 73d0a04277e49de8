"""Storms: thousands of short programs from several threads of the test, while the clock is moved.

`make stress` has them last long: VDSOTIME_STORM_S says how many seconds each.
A seed that fails is to become a row of SEEDS.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from random import Random
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock, NotSettled

if TYPE_CHECKING:
    from conftest import Builder

STORM_S = float(os.environ.get("VDSOTIME_STORM_S", "5"))
CEILING_S = 30
STARTERS, DEPTH = 3, 2
SEEDS = (1, 2, 3)
YEAR_2040_NS = 2208988800 * 10**9


class Storm:
    """One clock and those that use it."""

    def __init__(self, clock: FrozenClock, command: str, seed: int) -> None:
        self.clock, self.command, self.seed = clock, command, seed
        self.until_s = time.monotonic() + STORM_S
        self.faults: list[BaseException] = []
        self.started = 0

    def run(self) -> None:
        jobs: list[Callable[[], None]] = [self.move]
        jobs += [lambda number=number: self.start(number) for number in range(STARTERS)]  # type: ignore[misc]
        threads = [threading.Thread(target=self.guarded, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.faults:
            raise self.faults[0]

    def guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            self.faults.append(error)
            self.until_s = 0

    def start(self, number: int) -> None:
        random = Random(1000 * self.seed + number)
        while time.monotonic() < self.until_s:
            seeds = [random.randrange(1, 10**6) for _ in range(random.randrange(1, 8))]
            programs = [
                self.clock.popen([self.command, str(seed), str(DEPTH)], stderr=PIPE, text=True)
                for seed in seeds
            ]
            for seed, program in zip(seeds, programs, strict=True):
                _, said = program.communicate(timeout=CEILING_S)
                assert (program.returncode, said) == ((7 * seed + 3) % 120, ""), seed
            self.started += len(programs)

    def move(self) -> None:
        random, clock = Random(self.seed), self.clock
        while time.monotonic() < self.until_s:
            before = self.apart_ns()
            kind = random.randrange(5)
            try:
                if kind == 0:
                    clock.advance(random.choice([0.001, 1, 3600]), timeout=0.2)
                elif kind == 1:
                    clock.jump(random.choice([0.001, 60, 86400]), timeout=0.2)
                elif kind == 2:
                    clock.rate = random.choice([0.5, 1, 2])
                    clock.rate = 1
                    continue
                elif kind == 3:
                    clock.move_to(random.randrange(YEAR_2040_NS) / 1e9)
                    continue
                else:
                    time.sleep(random.random() / 50)
            except NotSettled:
                pass  # there is always some program that runs
            after = self.apart_ns()
            assert before.start <= after.stop and after.start <= before.stop

    def apart_ns(self) -> range:
        """Between which two values the difference of the lines is, which both tick."""
        first_ns = self.clock.monotonic_ns()
        wall_ns = self.clock.time_ns()
        return range(wall_ns - self.clock.monotonic_ns(), wall_ns - first_ns)


@pytest.mark.timeout(STORM_S + 6 * CEILING_S)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm(seed: int, build: Builder) -> None:
    command = build.c("helpers/storm")
    with FrozenClock("2030-01-01", rate=1) as clock:
        storm = Storm(clock, command, seed)
        storm.run()
        for _ in range(100 * CEILING_S):  # who has lost its parent is about to end
            if not clock.processes:
                break
            time.sleep(0.01)
        assert clock.processes == []
    print(f"{storm.started / STORM_S:.0f} programs a second, and those that they start")
