"""The table of docs/from-freezegun.md: each form of freezegun, time-machine and this, in one run of
pytest, is as the page says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pytest_vdsotime

Run = Callable[..., pytest.RunResult]

PAGE = (Path(pytest_vdsotime.__file__).parent / "docs" / "from-freezegun.md").read_text()
TOOLS = {
    "freezegun": 'with freeze_time("2030-01-01") as frozen:',
    "time_machine": 'with travel("2030-01-01", tick=False) as traveller:',
    "ours": "if True:",
}
SOURCE = """
import time
from datetime import UTC, date, datetime, timedelta
from freezegun import freeze_time
from time_machine import travel
from pytest_vdsotime import FrozenClock

def by_python():
    return datetime.now(UTC).replace(tzinfo=None)

def by_program():
    text = subprocess.check_output(["date", "-u", "+%FT%T.%6N"], text=True)
    return datetime.fromisoformat(text.strip())

def check(read, told):
    first = read()
    end = host_s() + 0.01
    while host_s() < end:
        pass
    is_going_on = read() != first
    assert is_going_on == ("goes on" in told)
    if told == "a day ago":
        began = datetime.fromtimestamp(host_s() - 86400, UTC).replace(tzinfo=None)
        assert abs(first - began) < timedelta(minutes=1)
    else:
        began = datetime.fromisoformat(told.removesuffix(", and goes on"))
        assert began <= first < began + timedelta(minutes=is_going_on, microseconds=1)

def host_s():
    return time.clock_gettime(5)  # CLOCK_REALTIME_COARSE, which all of them leave alone
"""


def rows() -> list[list[str]]:
    table = re.search(r"^\| freezegun \| time-machine .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert table
    lines = table[0].strip().splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in lines]


def source_of(name: str, tool: str, cell: str, told: str) -> str:
    """A test of one form."""
    read = "by_program" if tool == "ours" else "by_python"
    check = f"check({read}, {told!r})"
    frozen = '@pytest.mark.frozen_time("2030-01-01")\n' if tool == "ours" else ""
    if cell.startswith("@"):
        return f"{cell}\ndef {name}():\n    {check}\n"
    if cell.startswith("with "):
        return f"def {name}():\n    {cell}\n        {check}\n"
    fixture = "frozen_clock" if tool == "ours" else ""
    return f"{frozen}def {name}({fixture}):\n    {TOOLS[tool]}\n        {cell}\n        {check}\n"


def test_each_row(run: Run) -> None:
    tests = [
        source_of(f"test_{number}_{tool}", tool, cell, row[-1])
        for number, row in enumerate(rows())
        for tool, cell in zip(TOOLS, row, strict=False)
    ]
    assert len(tests) >= 36
    result = run("\n".join([SOURCE, *tests]), plugins=("time_machine",))
    result.assert_outcomes(passed=len(tests))
