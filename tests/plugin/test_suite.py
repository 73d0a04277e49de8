"""Another project's tests, which start programs, have the same results on a clock: those of sarge,
a wrapper of subprocess with a Popen of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., dict[str, str]]

SUITE = Path(sys.prefix, "share", "sarge")

#: The first two wait for real seconds, the others give programs less than a busy machine needs; the
#: last one reads once what two programs have written by then.
NOT_RUN = (
    *("test_timeout", "test_pipeline_async"),
    *("test_run_async", "test_expect", "test_feeder", "test_exceptions"),
    "test_capture_when_other_piped",
)

#: How long it waits for output: by default 20 ms, which end some tests early on a busy machine.
PATIENCE = "import sarge\nsarge.default_capture_timeout = 5\n"
PLUGIN = "-p", "pytest_vdsotime.plugin"

FAILS: Callable[[str], bool] = "PASSED".__ne__

AT_2038 = """
def test_it_is_on_the_clock():
    assert sarge.get_stdout("date -u +%F") == "2038-01-19\\n"
"""
FROM_NOW = """
def test_it_is_on_the_clock(frozen_clock):
    assert frozen_clock.rate == 1
    year = int(sarge.get_stdout("date -u +%Y"))
    frozen_clock.advance(days=36525)
    assert int(sarge.get_stdout("date -u +%Y")) - year == 100
"""
RATE_1 = """
import pytest

def pytest_itemcollected(item):
    item.add_marker(pytest.mark.frozen_time(rate=1))
"""


@pytest.fixture
def run_suite(tmp_path: Path) -> Run:
    """`run_suite(*args)` is the outcome of each test by its name."""
    if not SUITE.exists():
        pytest.fail(f"{SUITE} is missing: make test sets it up, see the Makefile")
    shutil.copytree(SUITE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "conftest.py").write_text(PATIENCE)

    def run(*args: str) -> dict[str, str]:
        """A test that races with its own programs passes at another time, if not at each."""
        outcomes = run_once(*args)
        for _ in range(2):
            if {*outcomes.values()} == {"PASSED"}:
                break
            again = run_once(*args)
            outcomes = {name: min(one, again[name], key=FAILS) for name, one in outcomes.items()}
        return outcomes

    def run_once(*args: str) -> dict[str, str]:
        command = [sys.executable, "-m", "pytest", "-vv", "-pno:cacheprovider", *args]
        command += ["-k", " and ".join(f"not {name}" for name in NOT_RUN)]
        alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(
            command, env=alone, cwd=tmp_path, capture_output=True, text=True, timeout=150
        )
        found = re.findall(r"^(\S+::\S+) ([A-Z]+)", done.stdout, re.MULTILINE)
        assert len(found) > 50, done.stdout + done.stderr
        return dict(found)

    return run


@pytest.mark.timeout(500)
def test_same_results(run_suite: Run, tmp_path: Path) -> None:
    alone = run_suite()
    assert {name: outcome for name, outcome in alone.items() if outcome != "PASSED"} == {}
    probe = tmp_path / "test_probe.py"

    probe.write_text("import sarge\n" + AT_2038)
    on_the_clock = run_suite(*PLUGIN, "--vdso-time=2038-01-19")
    assert on_the_clock.pop("test_probe.py::test_it_is_on_the_clock") == "PASSED"
    assert on_the_clock == alone

    probe.write_text("import sarge\n" + FROM_NOW)
    Path(tmp_path, "conftest.py").write_text(PATIENCE + RATE_1)
    on_the_clock = run_suite(*PLUGIN)
    assert on_the_clock.pop("test_probe.py::test_it_is_on_the_clock") == "PASSED"
    assert on_the_clock == alone
