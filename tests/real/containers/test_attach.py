"""A container of an engine that is on no clock comes under one by `attach`, filter and all."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock

CEILING_S = 30


class Bare(subprocess.Popen[bytes]):
    """An engine's program that no clock has."""

    exited = None

    def end(self) -> None:
        self.kill()
        self.wait()


@pytest.fixture
def bare_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_session: object, *args: Any, is_engine: bool, **keywords: Any) -> Bare:
        assert is_engine
        return Bare(*args, **keywords)

    monkeypatch.setattr("pytest_vdsotime.containers.start_program", start)


def test_one_that_runs_already(
    started: Any,
    engine_name: str,
    box_image: Path,
    bare_engines: None,
    output_of: Callable[..., bytes],
) -> None:
    """Its shell and what that starts; not what `exec` starts in it later."""
    here = time.strftime("%Y")
    with FrozenClock("2038-01-19") as clock, started(clock, engine_name) as engine:
        script = "while :; do date +%Y; sleep 0.1; done"
        container = engine.run(engine.load(box_image), "sh", "-c", script, detach=True)

        def tells(year: str) -> None:
            deadline_s = time.monotonic() + CEILING_S
            while not container.logs(tail=1).decode().startswith(year):
                assert time.monotonic() < deadline_s, clock.describe()
                time.sleep(0.02)

        tells(here)
        container.reload()
        pid = container.attrs["State"]["Pid"]
        assert "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
        attached = clock.attach(pid, children=True)
        tells("2038")
        clock.jump(days=400)
        tells("2039")
        assert output_of(container, "date", "+%Y").decode().strip() == here
        attached.close()
        tells(here)
        container.kill()
