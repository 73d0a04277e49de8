"""What is dying is not at rest, and after COMMAND's end nothing moves the clock by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30
LONG_S = 10101
VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]


def cpu_s(pid: int) -> float:
    """The processor time of a process, with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def tracer_of(pid: int) -> int:
    """The process whose thread traces `pid`; 0 if none does."""
    tid = int(Path(f"/proc/{pid}/status").read_text().partition("TracerPid:")[2].split()[0])
    if tid == 0:
        return 0
    return int(Path(f"/proc/{tid}/status").read_text().partition("Tgid:")[2].split()[0])


# After COMMAND's end.

DAEMON = "(echo $BASHPID; while sleep 60; do date +%s; done) & echo started"


@pytest.mark.parametrize("stride", [[], ["--stride", "1h"]], ids=["deadlines", "strides"])
def test_a_daemon_left_behind(tmp_path: Path, stride: list[str]) -> None:
    """Burns no processor, and its clock does not jump."""
    output = tmp_path / "output"
    with output.open("w") as file:
        command = [*VDSOTIME, "--at", "@0", "--autojump", *stride, "--", "bash", "-c", DAEMON]
        done = subprocess.run(command, stdout=file, timeout=CEILING_S)
    assert done.returncode == 0
    end_s = time.monotonic() + CEILING_S
    while len(lines := output.read_text().split()) < 2 and time.monotonic() < end_s:
        time.sleep(0.01)  # the child may be slower than COMMAND
    assert "started" in lines
    pid = next(int(line) for line in lines if line != "started")
    try:
        tracer = tracer_of(pid)
        time.sleep(0.2)
        printed, before_s = output.read_text(), cpu_s(pid) + cpu_s(tracer)
        time.sleep(1)
        assert cpu_s(pid) + cpu_s(tracer) - before_s < 0.05
        assert output.read_text() == printed
        assert printed.count("\n") < 100  # until COMMAND's end is seen it may have jumped
    finally:
        for child in [*children_of(pid), pid]:
            os.kill(child, signal.SIGKILL)


def test_a_loop_that_only_looks_at_the_clock() -> None:
    script = "import time; e=time.monotonic()+1\nwhile time.monotonic()<e: pass"
    command = [*VDSOTIME, "--autojump", "--", sys.executable, "-c", script]
    assert subprocess.run(command, timeout=CEILING_S).returncode == 0


# The dying.

KILLED = f"""
import os, signal, time
for _ in range(50):
    child = os.fork()
    if child == 0:
        time.sleep({LONG_S})
        os._exit(0)
    time.sleep(1)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
print(int(time.time()))
"""
ENDS = f"""
import os, threading, time
for _ in range(50):
    child = os.fork()
    if child == 0:
        threading.Thread(target=time.sleep, args=({LONG_S},)).start()
        time.sleep(1)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print(int(time.time()))
"""


@pytest.mark.parametrize("script", [KILLED, ENDS], ids=["SIGKILL", "_exit"])
def test_the_clock_does_not_jump_while_a_sleeper_dies(script: str) -> None:
    with FrozenClock(0, autojump=True) as clock:
        done = clock.run([sys.executable, "-c", script], stdout=PIPE, timeout=CEILING_S)
        assert (done.returncode, done.stdout) == (0, b"50\n")


SHELL = "for i in $(seq 50); do sleep 10101 & kill -9 $!; wait $!; done 2>&-; date +%s"


def test_a_shell_kills_sleepers() -> None:
    with FrozenClock(0, autojump=True) as clock:
        done = clock.run(["bash", "-c", SHELL], stdout=PIPE, timeout=CEILING_S)
        assert done.stdout == b"0\n"


def test_a_sleeper_is_killed_while_the_test_advances() -> None:
    """Its end comes before the deadline of its sleep, and the other sleepers go on."""
    with FrozenClock(0, monotonic="freeze") as clock:
        for turn in range(50):
            victim = clock.popen(["sleep", str(LONG_S)])
            script = f"sleep 5; kill -9 {victim.pid}; sleep 5; date +%s"
            killer = clock.popen(["bash", "-c", script], stdout=PIPE)
            clock.advance(20)
            assert victim.wait(CEILING_S) == -signal.SIGKILL
            assert killer.communicate(timeout=CEILING_S)[0] == b"%d\n" % (20 * turn + 10)


@pytest.mark.parametrize("autojump", [False, True], ids=["asked", "jumping"])
def test_a_thread_sets_a_timer_while_its_process_ends(build: Builder, autojump: bool) -> None:
    """Again and again, until it dies in the middle of that."""
    with FrozenClock(0, autojump=autojump) as clock:
        for _ in range(60):
            setter = clock.popen([build.c("helpers/sets_timers")])
            assert setter.wait(CEILING_S) == 0
            if not autojump:
                before_s = clock.time()
                clock.advance(10)
                assert clock.time() == before_s + 10
        assert clock.run(["sleep", "60"], timeout=CEILING_S).returncode == 0 if autojump else True
