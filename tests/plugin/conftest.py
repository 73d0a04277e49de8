"""How the tests of the plugin run pytest: as a user does, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import pytest

Run = Callable[..., pytest.RunResult]

# What the test files of these tests begin with.
PRELUDE = '''
import subprocess
import unittest

import pytest

def year():
    """The year that a program reads."""
    command = ["date", "-u", "+%Y"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

def year_of(clock):
    return int(clock.check_output(["date", "-u", "+%Y"]))

class Reader:
    """A program that lives on and says what year it is, again and again."""

    def __init__(self):
        command = ["sh", "-c", "while read line; do date -u +%Y; done"]
        pipe = subprocess.PIPE
        self.program = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def year(self):
        self.program.stdin.write("?\\n")
        self.program.stdin.flush()
        return int(self.program.stdout.readline())

    def close(self):
        self.program.communicate()
        assert self.program.returncode == 0

NOW = year()
'''


# Plugins that are installed for the few tests which name them.
COMPANY = (
    *("anyio", "asyncio", "pytest-subprocess", "pytest_cov", "pytest_postgresql", "pytest_redis"),
    *("rerunfailures", "time_machine", "xprocess"),
)


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """`run(source, *args, under=(), plugins=())` writes the test file and runs pytest on it, in the
    order of the file; `under` is a command that starts another, `plugins` are of COMPANY."""

    def run_pytest(
        source: str, *args: str, under: Sequence[str] = (), plugins: Sequence[str] = ()
    ) -> pytest.RunResult:
        pytester.makepyfile(PRELUDE + source)
        absent = [f"-pno:{name}" for name in ("randomly", *COMPANY) if name not in plugins]
        command = [*under, sys.executable, "-m", "pytest", *absent]
        return pytester.run(*command, f"--basetemp={pytester.path}/basetemp", *args, timeout=50)

    return run_pytest
