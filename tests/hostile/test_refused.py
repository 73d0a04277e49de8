"""Where tracing cannot work there is an error with the reason and the remedy, at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pytest_vdsotime

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 60

TRY = """
import time
from pytest_vdsotime import FrozenClock, TracingUnavailable
clock = FrozenClock()
before = time.monotonic()
try:
    clock.run(["date"])
except TracingUnavailable as error:
    print(time.monotonic() - before < 1, error.reason, error.remedy, sep="|")
    assert error.reason in str(error) and error.remedy in str(error)
else:
    print("it worked")
clock.close()
"""


def refusal(*sandbox: str) -> tuple[str, str]:
    """(reason, remedy) that a script in the sandbox got within a second."""
    package = str(Path(pytest_vdsotime.__file__).parent.parent)
    path = os.pathsep.join([package, *sys.path])
    done = subprocess.run(
        [*sandbox, sys.executable, "-W", "error", "-c", TRY],
        env={**os.environ, "PYTHONPATH": path},
        timeout=CEILING_S,
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    at_once, reason, remedy = done.stdout.strip().split("|")
    assert at_once == "True"
    return reason, remedy


def test_traced_already(real_program: Callable[[str], str], tmp_path: Path) -> None:
    reason, remedy = refusal(real_program("strace"), "-f", "-qq", "-o", str(tmp_path / "log"))
    assert "strace" in reason
    assert "strace" in remedy or "without" in remedy


def test_refused_by_a_sandbox(build: Builder) -> None:
    reason, remedy = refusal(build.c("helpers/refuse_ptrace"))
    assert "ptrace" in reason.lower() or "PTRACE" in reason
    assert "SYS_PTRACE" in remedy or "seccomp" in remedy


def test_the_script_works_elsewhere() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        refusal()
