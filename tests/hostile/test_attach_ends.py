"""A child of the test process that ends while it is attached to: its status is for who waits for it
here, always."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock, VdsoTimeError, faults
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.kernel.wait import StopKind
from pytest_vdsotime.tracer.loop import Loop

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30
Tries = Callable[[int], int]
WAYS = ["exit", "thread", "last", "exec"]
SIGNALS = [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV]


@contextmanager
def started(*command: str) -> Iterator[Any]:
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, bufsize=0) as program:
        try:
            assert program.stdout and program.stdout.readline() == b"up\n"
            yield program
        finally:
            program.kill()


def end(program: Any, way: str | int) -> int:
    """Has it end; returns what with."""
    if isinstance(way, str):
        program.stdin.write(way.encode())
        return 1
    os.kill(program.pid, way)  # Popen's own method would wait for it first
    return -way


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + CEILING_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def state(path: Path) -> str:
    """By a stat file (proc(5))."""
    return path.read_text().rpartition(")")[2].split()[0]


def wait_until_ended(program: Any) -> None:
    """Leaves its status where it is; its stops, of which Linux tells as well, too."""

    def has_ended() -> bool:
        options = os.WEXITED | os.WNOWAIT | os.WNOHANG
        found = os.waitid(os.P_PID, program.pid, options)
        return found is not None and found.si_code in (
            os.CLD_EXITED,
            os.CLD_KILLED,
            os.CLD_DUMPED,
        )

    wait_for(has_ended)


@pytest.mark.parametrize("way", [*WAYS, *SIGNALS])
@pytest.mark.parametrize("target", ["static", "dynamic"])
def test_while_it_is_attached_to(target: str, way: str | int, build: Builder, tries: Tries) -> None:
    with FrozenClock(1000) as clock:
        for _ in range(tries(20)):
            with started(build.c("helpers/attach_ends", target)) as program:
                attached = clock.attach(program.pid)
                status = end(program, way)
                wait_until_ended(program)
                attached.close()
                assert program.wait(CEILING_S) == status


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
@pytest.mark.parametrize("target", ["static", "dynamic"])
def test_its_first_thread_ends_while_it_is_attached_to(
    target: str, again: bool, build: Builder
) -> None:
    """The others are let go, and go on."""
    with started(build.c("helpers/attach_ends", target)) as program, FrozenClock(1000) as clock:
        attached = clock.attach(program.pid)
        end(program, "alone")
        wait_for(lambda: state(Path(f"/proc/{program.pid}/stat")) == "Z")
        attached.close()
        if again:
            clock.attach(program.pid).close()
        others = set(os.listdir(f"/proc/{program.pid}/task")) - {str(program.pid)}
        for tid in others:
            status = Path(f"/proc/{program.pid}/task/{tid}/status").read_text()
            assert "\nTracerPid:\t0\n" in status
        assert len(others) == 4
        end(program, "now")
        assert program.wait(CEILING_S) == 1


@pytest.mark.parametrize("way", ["exit", "last", signal.SIGKILL])
def test_while_it_is_let_go(way: str | int, build: Builder, tries: Tries) -> None:
    count = tries(100)
    with FrozenClock(1000) as clock:
        for i in range(count):
            with started(build.c("helpers/attach_ends")) as program:
                attached = clock.attach(program.pid)
                ending = threading.Timer(0.01 * i / count, end, [program, way])
                ending.start()
                attached.close()
                ending.join()
                assert program.wait(CEILING_S) == (1 if isinstance(way, str) else -way)


@pytest.mark.parametrize("way", ["exit", signal.SIGKILL])
def test_while_it_is_being_attached_to(way: str | int, build: Builder, tries: Tries) -> None:
    count = tries(100)
    with FrozenClock(1000) as clock:
        for i in range(count):
            with started(build.c("helpers/attach_ends")) as program:
                ending = threading.Timer(0.02 * i / count, end, [program, way])
                ending.start()
                with suppress(ProcessLookupError):
                    clock.attach(program.pid).close()
                ending.join()
                assert program.wait(CEILING_S) == (1 if isinstance(way, str) else -way)
        tracer, _ = clock.session.start_tracing()
        wait_for(lambda: not tracer.call(lambda loop: set(loop.shortcuts.tables.leaving)))


@pytest.mark.parametrize("moment", ["opened", "read"])
def test_killed_before_its_memory_is(
    moment: str, monkeypatch: pytest.MonkeyPatch, build: Builder
) -> None:
    """While all its threads are stopped."""
    with FrozenClock(1000) as clock, started(build.c("helpers/attach_ends")) as program:
        tasks, read = Path(f"/proc/{program.pid}/task"), ProcessMemory.read
        vdso_areas = procfs.vdso_areas

        def kill() -> None:
            os.kill(program.pid, signal.SIGKILL)
            wait_for(lambda: {state(path) for path in tasks.glob("*/stat")} == {"Z"})
            ctypes.set_errno(0)  # of something before

        def kill_and_look(tid: int | str) -> dict[str, range]:
            if (tasks / str(tid)).exists():
                kill()
            return vdso_areas(tid)

        def kill_and_read(memory: ProcessMemory, address: int, size: int) -> bytes:
            if address == vdso_areas(program.pid).get("[vdso]", range(0)).start:
                kill()
            return read(memory, address, size)

        if moment == "opened":
            monkeypatch.setattr(procfs, "vdso_areas", kill_and_look)
        else:
            monkeypatch.setattr(ProcessMemory, "read", kill_and_read)
        with pytest.raises(ProcessLookupError):
            clock.attach(program.pid)
        assert program.wait(CEILING_S) == -signal.SIGKILL
        assert clock.processes == []


def test_killed_as_it_ends(build: Builder, tries: Tries) -> None:
    """Whichever comes first, it is what the kernel says."""
    count = tries(100)
    with FrozenClock(1000) as clock:
        for i in range(count):
            with started(build.c("helpers/attach_ends")) as program:
                clock.attach(program.pid)
                end(program, "exit")
                time.sleep(0.002 * i / count)
                os.kill(program.pid, signal.SIGKILL)
                wait_until_ended(program)
                assert program.wait(CEILING_S) in (1, -signal.SIGKILL)


# --- nobody has waited for it yet ----------------------------------------------------------------


@contextmanager
def ended(clock: FrozenClock, path: str) -> Iterator[Any]:
    """One that has ended while attached to. Its status is right at last."""
    with started(path) as program:
        clock.attach(program.pid)
        end(program, "exit")
        wait_for(lambda: clock.processes == [])
        yield program
        assert program.wait(CEILING_S) == 1


def test_others_end_meanwhile(build: Builder) -> None:
    """Those that were there before, and those that come: threads, children and all."""
    path = build.c("helpers/attach_ends")
    script = "echo up; read line; (exit 3); (exit $(($? + 1))); exit $(($? + 1))"
    with FrozenClock(1000) as clock, started(path) as attached:
        before = [clock.popen(["sh", "-c", script], stdin=PIPE, stdout=PIPE) for _ in range(3)]
        threaded = [clock.popen([path], stdin=PIPE, stdout=PIPE) for _ in WAYS]
        for one in (*before, *threaded):
            assert one.stdout and one.stdout.readline() == b"up\n"
        clock.attach(attached.pid)
        end(attached, "exit")
        wait_for(lambda: len(clock.processes) == len(before) + len(threaded))
        for one, way in zip((*before, *threaded), (*["x"] * len(before), *WAYS), strict=True):
            one.communicate(f"{way}\n".encode(), timeout=CEILING_S)
        assert {one.returncode for one in before} == {5}
        assert {one.returncode for one in threaded} == {1}
        for _ in range(5):
            assert clock.run(["sh", "-c", script], input=b"x\n", stdout=PIPE).returncode == 5
        assert attached.wait(CEILING_S) == 1


def test_another_attached_one_ends_meanwhile(build: Builder) -> None:
    path = build.c("helpers/attach_ends")
    with FrozenClock(1000) as clock, started(path) as other:
        clock.attach(other.pid)
        with started(path) as program:
            clock.attach(program.pid)
            end(program, "exit")
            wait_for(lambda: len(clock.processes) == 1)
            end(other, signal.SIGTERM)
            wait_for(lambda: clock.processes == [])
            assert program.wait(CEILING_S) == 1
        assert other.wait(CEILING_S) == -signal.SIGTERM


def test_the_clock_moves_and_is_closed_meanwhile(build: Builder) -> None:
    clock = FrozenClock(1000)
    with ended(clock, build.c("helpers/attach_ends")):
        sleeper = clock.popen(["sleep", "60"])
        clock.advance(60)
        assert sleeper.wait(CEILING_S) == 0
        left = clock.popen(["sleep", "1000"])
        clock.close()
        assert left.returncode == -signal.SIGKILL


def test_the_tracer_fails_meanwhile(build: Builder) -> None:
    """What it was attached to is killed with it, and says so."""
    path = build.c("helpers/attach_ends")
    clock = FrozenClock(1000)
    with ended(clock, path), started(path) as program:
        sleeper = clock.popen(["sleep", "1000"])
        clock.attach(program.pid)

        def fail(_tid: int) -> None:
            raise SystemExit("on purpose")  # which no handler of one program's failures takes

        with (
            faults.injected("entry EXEC", fail),
            faults.injected("stop EXEC", fail),
            pytest.raises(VdsoTimeError, match="the tracer failed"),
        ):
            clock.run(["true"])
        for call in (lambda: clock.run(["true"]), sleeper.wait, clock.close):
            with pytest.raises(VdsoTimeError, match="the tracer failed"):
                call()
        assert not Path(f"/proc/{sleeper.pid}").exists()
        assert program.wait(CEILING_S) == -signal.SIGKILL
        sleeper.returncode = -signal.SIGKILL  # nobody can tell any more


def test_its_end_is_told_again() -> None:
    """A look around may come before the end is handled that a wait has told of."""
    with FrozenClock(1000) as clock, subprocess.Popen(["sleep", "1000"]) as program:
        clock.attach(program.pid)
        tracer, _ = clock.session.start_tracing()

        def look_twice(loop: Loop) -> None:
            fastpath = loop.shortcuts.fastpath
            os.kill(program.pid, signal.SIGKILL)
            while (stop := fastpath.poll(program.pid)) is None or stop.kind != StopKind.EXITED:
                pass
            fastpath.poll(program.pid)
            loop.handle(stop)

        tracer.call(look_twice)
        assert program.wait(CEILING_S) == -signal.SIGKILL
