"""Reading the clock, against the kernel's own vDSO."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Medians, Table

SOURCE = Path(__file__).parent / "read_clock.c"
READS = "3000000"
RAW_READS = "2000"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Linked with the system's libc, as most programs are."""
    path = tmp_path / "read_clock"
    target = f"{platform.machine()}-linux-gnu"
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-O2"]
    subprocess.run([*compiler, "-o", path, SOURCE], check=True)
    return path


@pytest.mark.parametrize(
    ("rate", "what", "bar"),
    [(0.0, "clock_gettime, frozen", 0.2), (1.0, "clock_gettime, ticking", 1.3)],
    ids=["frozen", "ticking"],
)
def test_reading(
    rate: float, what: str, bar: float, program: Path, table: Table, medians: Medians
) -> None:
    command = [str(program), READS]
    with FrozenClock(rate=rate) as clock:
        bare, ours = medians(
            lambda: float(subprocess.check_output(command)),
            lambda: float(clock.check_output(command)),
        )
    table.check(f"{what}, against bare", f"{ours:.1f} / {bare:.1f} ns", ours / bare, bar)


def test_a_raw_call(program: Path, table: Table, medians: Medians) -> None:
    """Past the vDSO each read stops the program, and the tracer answers."""
    command = [str(program), RAW_READS, "raw"]
    with FrozenClock(0) as clock:
        bare, ours = medians(
            lambda: float(subprocess.check_output(command)),
            lambda: float(clock.check_output(command)),
        )
    figures = f"{ours / 1e3:.1f} / {bare / 1e3:.2f} µs"
    table.check("clock_gettime by a system call", figures, ours / 1e3, 25, " µs")
