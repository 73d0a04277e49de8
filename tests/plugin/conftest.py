"""How the tests of the plugin run pytest: as a user does, in a process of its own.

And a browser, for the files that it writes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

Record = dict[str, Any]
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


@pytest.fixture
def run(pytester: pytest.Pytester, alone: Callable[..., list[str]]) -> Run:
    """`run(source, *args, under=(), plugins=())` writes the test file and runs pytest on it, in the
    order of the file; `under` is a command that starts another, `plugins` are of COMPANY, which is
    in the root's conftest.py."""

    def run_pytest(
        source: str, *args: str, under: Sequence[str] = (), plugins: Sequence[str] = ()
    ) -> pytest.RunResult:
        pytester.makepyfile(PRELUDE + source)
        command = [*under, sys.executable, "-m", "pytest", *alone(*plugins)]
        return pytester.run(*command, f"--basetemp={pytester.path}/basetemp", *args, timeout=150)

    return run_pytest


class Page:
    """A browser's page, by the DevTools protocol."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = os.fdopen(answers, "rb", closefd=False)
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")
        answer = self.call("Target.attachToTarget", flatten=True, **target)
        self._session = {"sessionId": answer["sessionId"]}
        self.call("Page.enable")

    def call(self, method: str, **parameters: Any) -> Record:
        message = {"id": 1, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda said: said.get("id") == 1)
        result: Record = answer["result"]
        return result

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self._wait(lambda said: said.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        options = {"awaitPromise": True, "returnByValue": True}
        answer = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _wait(self, is_it: Callable[[Record], bool]) -> Record:
        message = bytearray()
        while byte := self._answers.read(1):
            if byte != b"\0":
                message += byte
                continue
            said: Record = json.loads(message)
            if is_it(said):
                return said
            message.clear()
        raise EOFError("the browser is gone")


@pytest.fixture
def page(real_program: Callable[[str], str], tmp_path: Path) -> Iterator[Page]:
    browser = [real_program("chromium"), "--headless", "--no-sandbox", "--disable-gpu"]
    options = ["--remote-debugging-pipe", f"--user-data-dir={tmp_path}/profile"]
    their_commands, commands = os.pipe()
    answers, their_answers = os.pipe()
    # It is on descriptors 3 and 4 that the browser listens and speaks.
    redirected = f'exec "$@" 3<&{their_commands} 4>&{their_answers}'
    process = subprocess.Popen(
        ["bash", "-c", redirected, "bash", *browser, *options],
        pass_fds=[their_commands, their_answers],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(their_commands)
        os.close(their_answers)
        yield Page(commands, answers)
    finally:
        os.close(commands)  # it exits
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            os.close(answers)
