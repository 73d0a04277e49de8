"""The suite in servers/ passes, as its user starts it, whatever its tests leave running."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.timeout(400)
@pytest.mark.parametrize("option", [[], ["--vdso-time=2030-01-01"], ["-n", "2"]])
def test_suite(
    pytester: pytest.Pytester,
    pg_ctl: Callable[[], str],
    alone: Callable[..., list[str]],
    option: list[str],
) -> None:
    shutil.copytree(Path(__file__).with_name("servers"), pytester.path, dirs_exist_ok=True)
    # Paths of Unix sockets are short, and workers of pytest-xdist may nest.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        result = pytester.runpytest_subprocess(
            f"--postgresql-exec={pg_ctl()}",
            f"--basetemp={directory}/base",
            *alone("pytest_postgresql", "pytest_redis", "xprocess"),
            "-W",
            "error",
            *option,
            timeout=350,
        )
    result.assert_outcomes(passed=5)
