"""pytest, `vdsotime` and the tracer are ended at moments that a seed chooses: killed/rounds.py.

`make stress` does so a thousand times: VDSOTIME_KILLED says how often. A seed that fails is to
become one of SEEDS; `pytest -k test_seeds` with it there makes the same round again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Builder

ROUNDS = int(os.environ.get("VDSOTIME_KILLED", "16"))
PARTS = 4
#: Those that have failed: a child lost its test process before its exec; a tracer that failed had
#: waited for a program of another parent's, or left a child to wait for it.
SEEDS = (98, 13705, 938)
#: Of real time for a round: on a busy machine some take several seconds.
LIMIT_S = 15
PROGRAM = Path(__file__).with_name("killed") / "rounds.py"


@pytest.fixture(autouse=True)
def has_a_server(real_program: Callable[[str], str]) -> None:
    """Which is one of the programs."""
    real_program("redis-server")


def run(seeds: list[int], directory: Path, build: Builder) -> None:
    job = {
        "seeds": seeds,
        "directory": str(directory),
        "storm": build.c("helpers/storm"),
        "witness": build.c("helpers/witness"),
        "archive": "",
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps(job)],
        capture_output=True,
        text=True,
        env=environment,
    )
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
@pytest.mark.timeout(60 + LIMIT_S * ROUNDS // PARTS)
@pytest.mark.parametrize("part", range(PARTS))
def test_rounds(part: int, tmp_path: Path, build: Builder) -> None:
    run([*range(part, ROUNDS, PARTS)], tmp_path, build)


@pytest.mark.long
@pytest.mark.timeout(60 + LIMIT_S * len(SEEDS))
def test_seeds(tmp_path: Path, build: Builder) -> None:
    run([*SEEDS], tmp_path, build)
