"""Containers are on the clock from the first instruction of PID 1, as docker-py starts them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_vdsotime import FrozenClock

Start = Any
SIX = "2038-01-19T06:00:00"
DATE = ("date", "-u", "+%Y-%m-%dT%H:%M:%S")
CEILING_S = 30


def comes(found: Any, wanted: object, what: Any) -> None:
    """Wait for what an engine does in real time."""
    deadline_s = time.monotonic() + CEILING_S
    while found() != wanted:
        assert time.monotonic() < deadline_s, (found(), what())
        time.sleep(0.02)


def test_a_container(
    started: Start, engine_name: str, box_image: Path, output_of: Callable[..., bytes]
) -> None:
    """Its own program, what is executed in it later, and its waits."""
    with FrozenClock(SIX, monotonic="freeze") as clock, started(clock, engine_name) as engine:
        image = engine.load(box_image)
        assert engine.run(image, *DATE, remove=True) == f"{SIX}\n".encode()
        script = "date +%H:%M; sleep 3600; date +%H:%M"
        container = engine.run(image, "sh", "-c", script, detach=True)
        comes(container.logs, b"06:00\n", clock.describe)  # an engine starts it in real time
        clock.advance(minutes=59)
        assert output_of(container, *DATE) == b"2038-01-19T06:59:00\n"
        assert container.logs() == b"06:00\n"
        clock.advance(minutes=1)
        assert container.wait(timeout=CEILING_S)["StatusCode"] == 0
        assert container.logs() == b"06:00\n07:00\n"


def test_the_engine_is_in_real_time(
    started: Start, engine_name: str, box_image: Path, output_of: Callable[..., bytes]
) -> None:
    """It neither wakes as the clock moves, nor is it at rest for it, nor has it its dates."""
    with FrozenClock(SIX, monotonic="freeze") as clock, started(clock, engine_name) as engine:
        container = engine.run(engine.load(box_image), "sleep", "1000000", detach=True)
        comes(lambda: [wait.command for wait in clock.waits], ["sleep"], clock.describe)
        begin = time.monotonic()
        clock.jump(days=10)
        assert time.monotonic() - begin < CEILING_S
        assert output_of(container, *DATE) == b"2038-01-29T06:00:00\n"
        log = (engine.directory / "log").read_text()
        assert "2038-" not in log  # fractions of seconds may have the digits


def test_an_image_may_have_programs_that_are_called_as_the_engines(
    started: Start, box_image: Path
) -> None:
    with FrozenClock(SIX) as clock, started(clock, "docker") as engine:
        image = engine.load(box_image)
        script = "cat /bin/busybox >/tmp/runc; chmod +x /tmp/runc; (exec -a date /tmp/runc +%Y)"
        assert engine.run(image, "sh", "-c", script, remove=True) == b"2038\n"


def test_two_clocks(started: Start, box_image: Path) -> None:
    """An hour apart, each with an engine of its own."""
    with (
        FrozenClock(SIX) as here,
        FrozenClock("2038-01-19T07:00:00") as there,
        started(here, "docker") as first,
        started(there, "docker") as second,
    ):
        images = [engine.load(box_image) for engine in (first, second)]
        assert first.run(images[0], "date", "+%H", remove=True) == b"06\n"
        assert second.run(images[1], "date", "+%H", remove=True) == b"07\n"
        here.advance(minutes=30)
        assert first.run(images[0], "date", "+%H:%M", remove=True) == b"06:30\n"
        assert second.run(images[1], "date", "+%H:%M", remove=True) == b"07:00\n"


def test_health_checks_and_restarts(started: Start, box_image: Path) -> None:
    """The engine repeats both in real time; what it starts for them is on the clock."""
    with FrozenClock(SIX) as clock, started(clock, "docker") as engine:
        image = engine.load(box_image)
        second_ns = 10**9
        healthy = {
            "test": ["CMD-SHELL", 'test "$(date +%H)" = 07'],
            "interval": second_ns // 5,
            "retries": 1,
        }
        patient = engine.run(image, "sleep", "1000000", detach=True, healthcheck=healthy)
        policy = {"Name": "on-failure", "MaximumRetryCount": 1}
        script = "date +%H:%M; sleep 3600; exit 3"
        again = engine.run(image, "sh", "-c", script, detach=True, restart_policy=policy)
        comes(again.logs, b"06:00\n", again.logs)

        def health() -> str:
            patient.reload()
            return str(patient.attrs["State"]["Health"]["Status"])

        comes(health, "unhealthy", patient.logs)
        clock.advance(hours=1)
        comes(health, "healthy", patient.logs)
        comes(again.logs, b"06:00\n07:00\n", again.logs)


def test_a_clock_that_runs(started: Start, box_image: Path) -> None:
    with FrozenClock(SIX, rate=60.0) as clock, started(clock, "docker") as engine:
        said = engine.run(engine.load(box_image), "date", "+%Y-%m-%dT%H", remove=True)
        assert said == b"2038-01-19T06\n"


def test_an_advance_behind_the_start(started: Start, engine_name: str, box_image: Path) -> None:
    """An engine may answer before the container's first program runs: time passes after that."""
    with FrozenClock(SIX, monotonic="freeze") as clock, started(clock, engine_name) as engine:
        image = engine.load(box_image)
        for _ in range(3):
            container = engine.run(image, "sleep", "100", detach=True)
            clock.advance(100)
            assert container.wait(timeout=CEILING_S)["StatusCode"] == 0
