"""Memory of a program that has to be provided first, by somebody whom the tracer must not keep
waiting: a thread of the program (userfaultfd(2)), a file system in user space."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 10


def test_memory_that_a_thread_provides(build: Builder, as_root: None) -> None:
    """By the command, in a process group of its own: if the tracer waits, it does so in the kernel,
    and nothing but SIGKILL ends it."""
    command = [sys.executable, "-m", "pytest_vdsotime", "--at=@0", build.c("helpers/userfault")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        try:
            output, _ = program.communicate(timeout=CEILING_S)
        except subprocess.TimeoutExpired:
            for pid in (*_tracers(program.pid), program.pid):
                os.kill(pid, signal.SIGKILL)
            raise
    assert (output, program.returncode) == ("0\n", 0)


def _tracers(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/status") as file:
            line = next(line for line in file if line.startswith("TracerPid:"))
    except OSError:
        return []
    return [tracer for tracer in (int(line.split()[1]),) if tracer]
