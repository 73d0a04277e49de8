"""What the tests of real programs share: programs that say line by line what happens to them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from subprocess import PIPE, STDOUT
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock


class Program:
    """A program on a clock. It has said "ready" when its waits are about to begin."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        assert popen.stdout
        self._stdout = popen.stdout
        begin = self.line()
        assert begin == "ready", (begin, self.popen.poll())

    def line(self) -> str:
        """The next line that it says, however long that takes."""
        os.set_blocking(self._stdout.fileno(), True)
        return self._stdout.readline().decode().rstrip()

    def said(self) -> list[str]:
        """What it has said by now: nothing is waited for."""
        os.set_blocking(self._stdout.fileno(), False)
        return (self._stdout.read() or b"").decode().splitlines()


Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(clock, command, **keywords)` is a `Program`; its standard input stays open, and
    silent unless the test writes to it. What the test leaves running is killed."""
    with ExitStack() as programs:

        def start(clock: FrozenClock, command: list[str], **keywords: Any) -> Program:
            keywords = {"stdin": PIPE, "stderr": STDOUT, **keywords}
            popen = clock.popen(command, stdout=PIPE, bufsize=0, **keywords)
            programs.enter_context(popen)
            programs.callback(popen.kill)
            return Program(popen)

        yield start
