"""What the tests of files share: a shell in a directory of its own, on a clock."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest

from pytest_vdsotime import FrozenClock

CEILING_S = 30  # of real time

Shell = Callable[..., list[str]]


@pytest.fixture
def shell(real_program: Callable[[str], str], tmp_path: Path) -> Shell:
    """`shell(clock, script, *arguments)` is what a script of bash prints, line by line.

    It runs in `tmp_path`, in UTC; nothing fails in it, and nothing complains. Without a clock it
    runs bare.
    """
    bash = real_program("bash")
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
    environment["PATH"] += ":/usr/sbin:/sbin"  # an ordinary user's may lack what is there
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of the make that runs the tests
        environment.pop(name, None)

    def run(clock: FrozenClock | None, script: str, *arguments: str) -> list[str]:
        program = (clock.popen if clock else subprocess.Popen)(
            [bash, "-euc", script, "bash", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=PIPE,
            stderr=PIPE,
            text=True,
        )
        with program:
            output, errors = program.communicate(timeout=CEILING_S)
        assert (errors, program.returncode) == ("", 0)
        return output.splitlines()

    return run
