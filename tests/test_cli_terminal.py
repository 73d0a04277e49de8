"""The vdsotime command at the prompt of an interactive shell, with its job control."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import termios
from collections.abc import Iterator

import pytest

VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]


class Terminal:
    """An interactive bash on a terminal of its own."""

    def __init__(self) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "PS1": "READY$ ", "TERM": "dumb"}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        attributes = termios.tcgetattr(self._fd)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        self.expect("READY$ ")

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def expect(self, text: str) -> str:
        """What was printed up to and with `text`."""
        printed = ""
        while text not in printed:
            readable, _, _ = select.select([self._fd], [], [], 20)
            assert readable, f"{text!r} did not come after {printed!r}"
            printed += os.read(self._fd, 1).decode()
        return printed

    def close(self) -> None:
        os.close(self._fd)  # hangs up
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


COMMAND = " ".join([*VDSOTIME, "--at", "1970-01-01", "--"])
ENDLESS = "sh -c 'echo on; while read line; do date -u +%Y; done'"


def test_stop_and_go_on(terminal: Terminal) -> None:
    terminal.type(f"{COMMAND} {ENDLESS}\n")
    terminal.expect("on\r\n")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("READY$ ")
    terminal.type("echo status $?; jobs\n")
    terminal.expect("status 148")
    terminal.expect("Stopped")
    terminal.expect("READY$ ")
    terminal.type("fg\n\n")
    terminal.expect("1970\r\n")
    terminal.type("\x1a")
    terminal.expect("READY$ ")
    terminal.type("bg; until jobs | grep Stopped; do :; done\n")
    terminal.expect("Stopped")  # as it reads from the terminal: SIGTTIN
    terminal.expect("READY$ ")
    terminal.type("fg\n\n")
    terminal.expect("1970\r\n")
    terminal.type("\x04")
    terminal.expect("READY$ ")
    terminal.type("echo status $?\n")
    terminal.expect("status 0")


@pytest.mark.parametrize(
    ("key", "status"), [("\x03", 128 + signal.SIGINT), ("\x1c", 128 + signal.SIGQUIT)]
)
def test_interrupt_and_quit(terminal: Terminal, key: str, status: int) -> None:
    terminal.type("ulimit -c 0\n")
    terminal.expect("READY$ ")
    terminal.type(f"{COMMAND} {ENDLESS}\n")
    terminal.expect("on\r\n")
    terminal.type(key)
    terminal.expect("READY$ ")
    terminal.type("echo status $?\n")
    terminal.expect(f"status {status}")


def test_kill_of_the_job_reaches_it_once(terminal: Terminal) -> None:
    script = "trap 'echo trapped' TERM; echo on; read line; read line; echo over"
    terminal.type(f'{COMMAND} bash -c "{script}"\n')
    terminal.expect("on\r\n")
    terminal.type("\x1a")
    terminal.expect("READY$ ")
    terminal.type("kill %1; fg\n")
    terminal.expect("trapped\r\n")
    terminal.type("\n\n")
    assert "trapped" not in terminal.expect("over")


def test_a_pipeline(terminal: Terminal) -> None:
    terminal.type(f"{COMMAND} date -u +%Y | cat; echo ${{PIPESTATUS[*]}}\n")
    terminal.expect("1970\r\n0 0\r\n")
