"""Containers come and go while the clock is moved and other programs storm.

`make stress` has that last long, as in tests/real/test_storm.py.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock

STORM_S = float(os.environ.get("VDSOTIME_STORM_S", "1.5"))
CEILING_S = 40
STARTERS = 2
NS_PER_S = 10**9
#: What a container says before it ends, or waits for hours that a call lets pass, or to be killed.
SCRIPTS = {
    "ends": "date -u +%s; exit {status}",
    "waits": "date -u +%s; sleep 1800; date -u +%s; exit {status}",
    "forks": "for i in 1 2 3; do (date -u +%s; sleep 0.01) & done; wait; exit {status}",
    "is killed": "date -u +%s; sleep 1000000",
}


class Containers:
    """What the threads that start them do, and what is left of each of theirs."""

    def __init__(self, engine: Any, image: str, storm: Any) -> None:
        self._engine, self._image, self._storm = engine, image, storm
        self.ids: list[str] = []
        self.told: list[tuple[int, int, int]] = []
        """Between which two readings of the monotonic line a container has read the wall line."""

    def start(self, number: int) -> None:
        random = Random(1000 * self._storm.seed + 500 + number)
        while self._storm.lasts or not self.ids:
            self._run(random, random.choice(list(SCRIPTS)))

    def _run(self, random: Random, kind: str) -> None:
        clock, status = self._storm.clock, random.randrange(1, 120)
        script = SCRIPTS[kind].format(status=status)
        before_ns = clock.monotonic_ns()
        one = self._engine.run(self._image, "sh", "-c", script, detach=True)
        self.ids.append(one.id)
        if kind == "is killed":
            time.sleep(random.random() / 5)
            one.kill()
            status = 128 + signal.SIGKILL
        ended = self._ended(one, hours=kind == "waits")
        assert ended == status, (kind, ended, status, one.logs(), clock.describe())
        after_ns = clock.monotonic_ns()
        for line in one.logs().splitlines():
            self.told.append((before_ns, int(line) * NS_PER_S, after_ns))
        one.remove()

    def _ended(self, one: Any, *, hours: bool) -> int:
        if not hours:
            return int(one.wait(timeout=CEILING_S)["StatusCode"])
        deadline_s = time.monotonic() + CEILING_S
        while one.status != "exited":  # as long as others move the clock, they let the hours pass
            assert time.monotonic() < deadline_s, (one.logs(), self._storm.clock.describe())
            if not self._storm.lasts:
                self._storm.pass_an_hour()
            time.sleep(0.02)
            one.reload()
        return int(one.attrs["State"]["ExitCode"])


@pytest.mark.long
@pytest.mark.timeout(STORM_S + 3 * CEILING_S)
def test_a_storm_of_containers(
    started: Any,
    engine_name: str,
    box_image: Path,
    storm: Callable[..., Any],
    what_is_left_of: Callable[[str], list[str]],
) -> None:
    with (
        FrozenClock("2030-01-01", rate=1) as clock,
        started(clock, engine_name) as engine,
    ):
        one = storm(clock, 1, {"together"})
        containers = Containers(engine, engine.load(box_image), one)
        one.also(*(partial(containers.start, number) for number in range(STARTERS)))
        one.run()
        one.difference.check(containers.told, NS_PER_S)
    for identity in containers.ids:
        assert not what_is_left_of(identity)
    print(f"{len(containers.ids)} containers, {one.started} programs beside them, {one.calls}")
