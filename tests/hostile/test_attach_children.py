"""Attaching to a program with what it has started before: all, or a warning that counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock, RealTimeWarning, UnsupportedProgram

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 60
#: A grandchild that answers each line; its parents wait for it.
FAMILY = """
bash -c 'bash -c "echo up; while read line; do date +%s; done"; true'; true
"""


@contextmanager
def started(*command: str) -> Iterator[Any]:
    """It says "up" and ends at the end of its input."""
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as program:
        try:
            assert program.stdin and program.stdout and program.stdout.readline() == "up\n"
            yield program
            program.stdin.close()
            program.stdout.read()
        finally:
            program.kill()


def tell(program: Any) -> int:
    program.stdin.write("\n")
    program.stdin.flush()
    return int(program.stdout.readline())


def is_real(seconds: int) -> bool:
    return abs(seconds - time.time()) < CEILING_S


def tracer_of(pid: int) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return text.partition("TracerPid:")[2].split()[0]


def test_descendants_come_with_it() -> None:
    with started("bash", "-c", FAMILY) as program, FrozenClock(1000) as clock:
        attached = clock.attach(program.pid, children=True)
        assert tell(program) == 1000
        family = [one for one in clock.processes if one.argv[:1] == ["bash"]]
        assert len(family) == 3
        clock.advance(hours=1)
        assert tell(program) == 4600
        attached.close()
        assert clock.processes == []
        assert is_real(tell(program))
        assert {tracer_of(one.pid) for one in family} == {"0"}


def test_the_end_of_the_clock_lets_them_go() -> None:
    with started("bash", "-c", FAMILY) as program:
        with FrozenClock(1000) as clock:
            clock.attach(program.pid, children=True)
            assert tell(program) == 1000
        assert is_real(tell(program))


def test_without_them_they_are_counted() -> None:
    with started("bash", "-c", FAMILY) as program, FrozenClock(1000) as clock:
        with pytest.warns(RealTimeWarning, match="2 programs that .*bash.*children=True") as told:
            attached = clock.attach(program.pid)
        assert len(told) == 1
        assert is_real(tell(program))
        attached.close()
        clock.attach(program.pid, children=True)
        assert tell(program) == 1000


def test_a_program_without_children_is_told_nothing() -> None:
    script = "echo up; while read line; do echo $EPOCHSECONDS; done"
    with started("bash", "-c", script) as program, FrozenClock(1000) as clock:
        clock.attach(program.pid)
        assert tell(program) == 1000


FAMILY_OF = """
import subprocess, sys, threading
def spawn():
    while True:
        subprocess.run(["sh", "-c", "(:) | true"], check=True)
for _ in range(2):
    threading.Thread(target=spawn, daemon=True).start()
server = subprocess.Popen(["bash", "-c", "echo up; while read line; do date +%s; done"])
server.wait()
"""


@pytest.mark.filterwarnings("ignore:.*executed on a clock and then let go")
def test_others_are_born_and_end_meanwhile() -> None:
    """What ends is nothing to attach to; what is born is found, or was born on the clock.

    On a busy machine a shell of one round may still be there in the next.
    """
    with started(sys.executable, "-c", FAMILY_OF) as program, FrozenClock(1000) as clock:
        for _ in range(15):
            attached = clock.attach(program.pid, children=True)
            assert tell(program) == 1000
            attached.close()
            assert is_real(tell(program))
        assert clock.processes == []
        clock.attach(program.pid, children=True)
        pids = [one.pid for one in clock.processes]
        assert program.pid in pids and len(pids) > 1


def test_some_are_on_a_clock_already(frozen_clock_factory: Callable[..., FrozenClock]) -> None:
    """Of the same one, of another, and of another tracer's: there they stay."""
    with started("bash", "-c", FAMILY) as program:
        one, other = frozen_clock_factory(1000), frozen_clock_factory(2000)
        one.attach(program.pid, children=True)
        first, middle, last = (process.pid for process in one.processes)
        with FrozenClock(3000) as third:
            for pid in (first, last):
                with pytest.raises(Exception, match="already"):
                    third.attach(pid, children=True)
        one.close()
        other.attach(last)
        again = frozen_clock_factory(4000)
        again.attach(program.pid, children=True)
        assert len(again.processes) == 2 and tell(program) == 2000
        again.close()
        with FrozenClock(3000) as third:
            with pytest.warns(RealTimeWarning, match=rf"1 program .*\(pid {middle}\);"):
                third.attach(program.pid)
            assert len(third.processes) == 1


LIMITED = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (1, 1))
print("up", flush=True)
for line in sys.stdin:
    print(int(time.time()), flush=True)
"""


def test_one_that_cannot_be_given_the_clock() -> None:
    """It is told and left as it is; the others have the clock."""
    script = '"$0" -c "$1"; date +%s'
    command = ["bash", "-c", script, sys.executable, LIMITED]
    with started(*command) as program, FrozenClock(1000) as clock:
        with pytest.warns(RealTimeWarning, match="python.* runs in real time: .*mmap: Cannot"):
            clock.attach(program.pid, children=True)
        assert [one.pid for one in clock.processes] == [program.pid]
        assert is_real(tell(program))
        program.stdin.close()
        assert program.stdout.read() == "1000\n"


OF_ITS_PARENT = """
import os, sys
from pytest_vdsotime import FrozenClock
with FrozenClock(1000) as clock:
    clock.attach(os.getppid(), children=True)
    ours = {os.getpid(), *map(int, open(f"/proc/self/task/{os.getpid()}/children").read().split())}
    assert not ours & {one.pid for one in clock.processes}
    print(*(one.argv[0] for one in clock.processes))
"""


def test_what_is_above_the_test_process() -> None:
    """Neither the test process nor what it has started is taken over."""
    script = 'sleep 100 & "$0" -c "$1"; status=$?; kill $!; exit $status'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, OF_ITS_PARENT],
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("bash sleep\n", "", 0)


def test_a_child_of_the_test_process() -> None:
    """Its end is for who waits for it."""
    with started("bash", "-c", FAMILY) as program, FrozenClock(1000) as clock:
        clock.attach(program.pid, children=True)
        program.stdin.close()
        deadline_s = time.monotonic() + CEILING_S
        while clock.processes:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        assert program.wait(CEILING_S) == 0
        assert clock.processes == []


def ask(program: Any, line: str = "") -> tuple[int, int, int]:
    program.stdin.write(f"{line}\n")
    program.stdin.flush()
    own, others, pid = map(int, program.stdout.readline().split())
    return own, others, pid


@pytest.mark.parametrize("kind", ["share", "nap"])
@pytest.mark.parametrize("before", [[], ["sh", "-c", 'echo up; read line; exec "$0"']])
@pytest.mark.parametrize("target", ["static", "dynamic", "i386"])
def test_processes_of_one_memory(target: str, before: list[str], kind: str, build: Builder) -> None:
    """They are let go at once: neither finds the memory as the other needs it."""
    with started(*before, build.c("helpers/attach_memory", target)) as program:
        with FrozenClock(1000) as clock:
            attached = clock.attach(program.pid)
            if before:
                program.stdin.write("\n")
                program.stdin.flush()
                assert program.stdout.readline() == "up\n"
            assert ask(program)[0] == 1000
            assert ask(program, kind)[:2] == (1000, 1000)
            attached.close()
            assert clock.processes == []
            own, others, _ = ask(program)
            assert is_real(own)
            assert is_real(others)
        program.stdin.close()
        assert program.wait(CEILING_S) == 0


@pytest.mark.parametrize("children", [True, False])
def test_a_memory_of_others(children: bool, build: Builder) -> None:
    """They would get the clock as well: it is refused, and all is as it was."""
    with started(build.c("helpers/attach_memory")) as program, FrozenClock(1000) as clock:
        _, _, pid = ask(program, "share")
        match = rf"shares its memory with attach_memory\S* \(pid {pid}\); start it on the clock"
        with pytest.raises(UnsupportedProgram, match=match):
            clock.attach(program.pid, children=children)
        match = rf"shares its memory with attach_memory\S* \(pid {program.pid}\)"
        with pytest.raises(UnsupportedProgram, match=match):
            clock.attach(pid, children=children)
        assert clock.processes == []
        assert all(map(is_real, ask(program)[:2]))
        program.stdin.close()
        assert program.wait(CEILING_S) == 0


def test_a_memory_of_a_sibling(build: Builder) -> None:
    """Of the same parent (CLONE_PARENT): no process that it has started, nor the one it is of."""
    with started(build.c("helpers/attach_memory")) as program, FrozenClock(1000) as clock:
        _, _, pid = ask(program, "parent")
        for one, other in ((program.pid, pid), (pid, program.pid)):
            with pytest.raises(UnsupportedProgram, match=rf"shares .* \(pid {other}\)"):
                clock.attach(one)
        program.stdin.close()
        assert program.wait(CEILING_S) == 0
        assert os.waitpid(pid, 0) == (pid, 0)
