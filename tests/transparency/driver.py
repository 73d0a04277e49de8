"""Runs commands one after the other, each to its end or its timeout, and records how they ended.

The lane starts it twice, bare and on a clock: what it starts is on the clock of the driver. It
needs the standard library alone: `driver.py PLAN`, where PLAN is a JSON file:

    {"commands": [{"argv", "cwd", "env", "timeout", "output"}], "user": {...}, "results": FILE}

The user is that of the commands, in keywords of Popen. FILE gets one line of JSON that says whether
the driver is traced, and one for each command, `[status, seconds]`. The status is the exit status,
minus the signal, or a word. What a command leaves behind is killed before the next one starts.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def run(command: dict[str, Any], user: dict[str, Any]) -> int | str:
    """Return the status of one command of the plan."""
    with open(command["output"], "wb") as output:
        try:
            program = subprocess.Popen(
                command["argv"],
                cwd=command["cwd"],
                env=command["env"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **user,
            )
        except OSError as error:
            return f"not started: {error}"
        try:
            return program.wait(command["timeout"])
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            if program.returncode is None:
                program.kill()
                program.wait()
            end_children()


def end_children() -> None:
    """Kill every child, adopted ones too, until there is none."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := [int(pid) for pid in children.read_text().split()]:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def is_traced() -> bool:
    """Whether this process has a tracer (proc(5))."""
    status = Path("/proc/self/status").read_text()
    return status.partition("TracerPid:")[2].split()[0] != "0"


def main(plan_path: str) -> None:
    """Carry out the plan."""
    # Orphans of the commands become children of this process (prctl(2)).
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    plan = json.loads(Path(plan_path).read_text())
    with open(plan["results"], "w") as results:
        print(json.dumps(is_traced()), file=results, flush=True)
        for command in plan["commands"]:
            begun = time.monotonic()
            status = run(command, plan["user"])
            seconds = round(time.monotonic() - begun, 3)
            print(json.dumps([status, seconds]), file=results, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
