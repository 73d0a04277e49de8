"""What tracing and filtering cost whoever does them: the kernel's share in the other rows."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder
    from tests.benchmarks.conftest import Medians, Table, Timed

SILENT: dict[str, Any] = {
    "check": True,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}


@pytest.mark.parametrize(
    ("what", "under", "script"),
    [
        ("bash, 200 times /bin/true", "idle_tracer", "for i in {1..200}; do /bin/true; done"),
        ("dd bs=1", "allow_all", "exec dd if=/dev/zero of=/dev/null bs=1 count=500000"),
    ],
    ids=["tracing", "filtering"],
)
def test_the_least_that_it_costs(
    what: str, under: str, script: str, build: Builder, table: Table, medians: Medians, timed: Timed
) -> None:
    least = build.c(f"../benchmarks/{under}")
    command = ["bash", "-c", script]
    with FrozenClock(0) as clock:
        bare, floor, ours = medians(
            timed(lambda: subprocess.run(command, **SILENT)),
            timed(lambda: subprocess.run([least, *command], **SILENT)),
            timed(lambda: clock.run(command, **SILENT)),
        )
    figures = f"{ours:.3f} / {floor:.3f} / {bare:.3f} s"
    table.add(f"{what}, against {Path(least).name.rsplit('-', 1)[0]}", figures, ours / floor)
    table.add(f"{what}, {under} against bare", figures, floor / bare)
