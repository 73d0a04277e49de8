"""Programs that are in another time namespace (time_namespaces(7)) than the test process, before
the clock has seen them enter it; how they enter on the clock is in programs/time_namespace.c."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

import pytest_vdsotime
from pytest_vdsotime import FrozenClock, UnsupportedProgram

pytestmark = pytest.mark.usefixtures("as_root")

CEILING_S = 60
AHEAD_S, BOOT_AHEAD_S = 86400, 7 * 86400
UNSHARE = ["unshare", "--time", f"--monotonic={AHEAD_S}", f"--boottime={BOOT_AHEAD_S}", "--fork"]
#: What a program reads: the wall clock, the monotonic clock and that since the boot.
READ = """
def read():
    ids = time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME
    return [time.clock_gettime(one) for one in ids]
"""
#: Answers each line, of code, with what it reads then.
ANSWER = f"""
import ctypes, sys, time
{READ}
print("up", flush=True)
for line in sys.stdin:
    exec(line)
    print(*read(), flush=True)
"""
#: A test process that starts a program in a time namespace of its own.
UNSHARED = f"""
import ctypes, sys, time
from pytest_vdsotime import FrozenClock
{READ}
assert ctypes.CDLL(None).unshare(0x80) == 0  # CLONE_NEWTIME
with open("/proc/self/timens_offsets", "w") as file:
    file.write("monotonic {AHEAD_S} 0\\nboottime {BOOT_AHEAD_S} 0\\n")
program = [sys.executable, "-c", {READ + "import time; print(*read())"!r}]
with FrozenClock("2000-01-01", rate=1) as clock:
    for _ in range(2):
        here = [clock.time(), *read()[1:]]
        there = map(float, clock.check_output(program, text=True).split())
        print(*(round(a - b, -2) for a, b in zip(there, here)))
"""


def read() -> list[float]:
    ids = time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME
    return [time.time(), *(time.clock_gettime(one) for one in ids)]


class Program:
    """One that waits for lines."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self._popen = popen
        (pid,) = Path(f"/proc/{popen.pid}/task/{popen.pid}/children").read_text().split()
        self.pid = int(pid)

    def ahead_s(self, code: str = "") -> list[int]:
        """How far its clocks are ahead of the host's, after it has run some code."""
        assert self._popen.stdin and self._popen.stdout
        self._popen.stdin.write(f"{code}\n")
        self._popen.stdin.flush()
        there = map(float, self._popen.stdout.readline().split())
        return [round((a - b) / CEILING_S) * CEILING_S for a, b in zip(there, read(), strict=True)]


@contextmanager
def inside() -> Iterator[Program]:
    command = [*UNSHARE, "--kill-child", sys.executable, "-c", ANSWER]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as popen:
        assert popen.stdout and popen.stdout.readline() == "up\n"
        yield Program(popen)
        popen.communicate(timeout=CEILING_S)
        assert popen.returncode == 0


HOUR_S = 3600
FORK = "import os; pid = os.fork(); os._exit(not read()[1]) if not pid else os.waitpid(pid, 0)"


def test_a_running_program_is_attached_to() -> None:
    with inside() as program:
        assert program.ahead_s() == [0, AHEAD_S, BOOT_AHEAD_S]
        with FrozenClock(rate=1) as clock:
            attached = clock.attach(program.pid)
            assert program.ahead_s() == [0, AHEAD_S, BOOT_AHEAD_S]
            clock.advance(hours=1)
            assert program.ahead_s() == [HOUR_S, HOUR_S + AHEAD_S, HOUR_S + BOOT_AHEAD_S]
            clock.move_to(time.time() - HOUR_S)
            assert program.ahead_s(FORK) == [-HOUR_S, HOUR_S + AHEAD_S, HOUR_S + BOOT_AHEAD_S]
            attached.close()
        assert program.ahead_s() == [0, AHEAD_S, BOOT_AHEAD_S]


def test_one_whose_offsets_are_not_told() -> None:
    """Its file is about what it starts by then."""
    with inside() as program, FrozenClock() as clock:
        program.ahead_s("assert ctypes.CDLL(None).unshare(0x80) == 0")
        with pytest.raises(UnsupportedProgram, match="time namespace"):
            clock.attach(program.pid)
        assert program.ahead_s() == [0, AHEAD_S, BOOT_AHEAD_S]


def test_the_test_process_has_made_one() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(pytest_vdsotime.__file__).parent.parent)}
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNSHARED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    if "can't start new thread" in said.stderr:
        return  # nor a clock: Linux 6.1 allows it no thread (copy_process, kernel/fork.c)
    ahead = f"0.0 {AHEAD_S:.1f} {BOOT_AHEAD_S:.1f}\n"
    assert (said.stdout, said.stderr) == (2 * ahead, "")


def test_the_test_process_is_in_one() -> None:
    """As are its programs: they are not ahead of it."""
    command = [*UNSHARE, sys.executable, "-m", "pytest_vdsotime", "--rate", "1", "--"]
    program = [sys.executable, "-c", READ + "import time; print(*read())"]
    environment = {**os.environ, "PYTHONPATH": str(Path(pytest_vdsotime.__file__).parent.parent)}
    said = subprocess.check_output([*command, *program], env=environment, timeout=CEILING_S)
    there = [a - b for a, b in zip(map(float, said.split()), read(), strict=True)]
    assert [round(one, -2) for one in there] == [0, AHEAD_S, BOOT_AHEAD_S]


def test_namespaces_that_are_entered_by_tools() -> None:
    with FrozenClock("1970-01-01", rate=1) as clock:
        said = clock.check_output([*UNSHARE, "date", "+%s"], text=True)
        assert int(said) < CEILING_S
        assert clock.check_output(["nsenter", "--time=/proc/self/ns/time", "true"]) == b""
