"""As tests/hostile/test_killed.py, with a container engine and its containers alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Builder

ROUNDS = int(os.environ.get("VDSOTIME_KILLED", "30")) // 10
FIRST = 2  # seeds from which on the first few do something of each kind soon
LIMIT_S = 60  # of real time for a round
PROGRAM = Path(__file__).parents[2] / "hostile" / "killed" / "rounds.py"


@pytest.mark.long
@pytest.mark.timeout(60 + LIMIT_S * ROUNDS)
def test_rounds(tmp_path: Path, build: Builder, box_image: Path, as_root: None) -> None:
    job = {
        "seeds": [*range(FIRST, FIRST + ROUNDS)],
        "directory": str(tmp_path),
        "storm": build.c("helpers/storm"),
        "witness": build.c("helpers/witness"),
        "archive": str(box_image),
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
