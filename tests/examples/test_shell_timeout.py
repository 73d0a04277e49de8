"""A nightly job that hangs is ended by timeout(1) after an hour."""

from pathlib import Path
from subprocess import PIPE

import pytest

from pytest_vdsotime import FrozenClock

JOB = """#!/bin/sh
echo "begin $(date -u +%R)"
trap 'echo "ended $(date -u +%R)"; exit 1' TERM
while ! ls done 2>/dev/null; do sleep 5m; done
echo "done $(date -u +%R)"
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    script = tmp_path / "job.sh"
    script.write_text(JOB)
    script.chmod(0o755)
    return script


@pytest.mark.frozen_time("2030-01-01T03:00:00Z", monotonic="freeze")
def test_job_is_ended(frozen_clock: FrozenClock, job: Path) -> None:
    nightly = frozen_clock.popen(["timeout", "1h", job], cwd=job.parent, stdout=PIPE, text=True)
    frozen_clock.advance(minutes=59)
    assert nightly.poll() is None
    frozen_clock.advance(minutes=1)
    assert nightly.poll() == 124
    assert nightly.communicate()[0] == "begin 03:00\nended 04:00\n"


@pytest.mark.frozen_time("2030-01-01T03:00:00Z", autojump=True)
def test_job_is_ended_without_help(frozen_clock: FrozenClock, job: Path) -> None:
    assert frozen_clock.run(["timeout", "1h", job], cwd=job.parent).returncode == 124
    assert f"{frozen_clock.now:%R}" == "04:00"
