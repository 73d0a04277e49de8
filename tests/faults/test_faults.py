"""Whatever call of the tracer fails: an error by name or the right outcome, and nothing left.

`make faults` has 10,000 calls fail; here a few of each scenario do (README.md).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios import SCENARIOS

HERE = Path(__file__).parent
COUNT = 3
LIMIT_S = 55


def inject(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "inject.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)


@pytest.mark.parametrize("engine", ["native", "python"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_calls_that_fail(scenario: str, engine: str) -> None:
    done = inject(scenario, engine, str(COUNT))
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [one for one in results if one.get("wrong")]
    assert (len(results), done.returncode, done.stderr) == (COUNT + 1, 0, "")


#: What `make faults` has found, each as it was: the scenario, the engine, and the call that failed.
FOUND = [
    ("shell", "native", "ptrace:2 3 ESRCH"),  # a stopped task was taken for a killed one
    ("shell", "native", "ptrace:7 4 EPERM"),  # what the native code resumes was not looked at
    ("shell", "native", "ptrace:7 24 ESRCH"),  # a call whose end had failed was made again
    ("shell", "native", "wait4 25 ECHILD"),
    ("shell", "native", "ptrace:16903 2 EFAULT"),  # a child waited for ever to be interrupted
    ("shell", "native", "openat 18 ENOMEM"),  # taken for the end of a process
    ("threads", "native", "mmap 9 ENOMEM"),  # the test process crashed
    ("threads", "python", "ptrace:7 29 ESRCH"),  # a program was taken over twice
    ("threads", "native", "ptrace:2 4 EPERM"),  # the program was told EFAULT
    ("timers", "native", "clone3 2 EAGAIN"),  # the start waited for ever
    ("timers", "native", "kill 2 EPERM"),
    ("attached", "native", "ptrace:24 28 EIO"),  # what was attached to crashed
    ("attached", "python", "ptrace:12 22 EPERM"),  # or stayed stopped
    ("attached", "native", "ptrace:12 18 EPERM"),  # or was asked again and again
    ("attached", "python", "pwrite64 1 ESRCH"),  # or went on with registers that it was lent
    ("attached", "native", "waitid 55 ECHILD"),
    ("released", "native", "timerfd_settime 1 EINVAL"),  # a timer that never came, in silence
    ("released", "native", "openat 100 ENOMEM"),  # or whose copy stayed
    ("jumping", "python", "ptrace:16902 2 ESRCH"),  # killed in silence
    ("files", "native", "statx 2 ENOSYS"),  # a stamp of another time
    ("files", "native", "openat 63 EMFILE"),  # /proc/PID/stat of the machine, in silence
    ("copies", "native", "pwrite64 9 EIO"),  # a copy of the page that nobody can read any more
    ("ticks", "native", "kill 12 EPERM"),  # the tracer failed, and left its copy of a timerfd
    ("ticks", "native", "openat 6 ENOENT"),  # a timerfd expired twice, in silence
]


@pytest.mark.parametrize(("scenario", "engine", "fault"), FOUND)
def test_calls_that_did(scenario: str, engine: str, fault: str) -> None:
    """And their neighbours: not every run makes equally many calls."""
    call, nth, error = fault.split()
    done = inject(scenario, engine, "3", call, str(max(int(nth) - 1, 1)), error)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    outcomes = [json.loads(line)["outcome"] for line in done.stdout.splitlines()]
    assert len(outcomes) == 3
    assert {*outcomes} != {"not reached"}
