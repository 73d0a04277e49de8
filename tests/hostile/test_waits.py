"""What a test may do wrong while programs wait, and what may happen to them.

Each ends in its result or in an error that names it, and the clock stays usable.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import ClockClosed, FrozenClock, NotSettled
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.timeline import NS_PER_S
from pytest_vdsotime.tracer.loop import Loop
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30


@pytest.mark.timeout(400)
def test_thousands_of_threads(build: Builder, tries: Callable[[int], int]) -> None:
    count = tries(10_000)
    with FrozenClock(0, monotonic="freeze") as clock:
        command = [build.c("helpers/many_sleepers"), str(count)]
        program = clock.popen(command, stdin=PIPE, stdout=PIPE, text=True)
        assert program.stdin and program.stdout
        assert program.stdout.readline() == "up\n"
        clock.settle(timeout=4 * CEILING_S)
        assert len(clock.waits) == count
        clock.advance(3599, timeout=4 * CEILING_S)
        clock.advance(1, timeout=4 * CEILING_S)
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == f"{count}\n"
        program.communicate(timeout=4 * CEILING_S)
        assert program.returncode == 0


@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
def test_a_program_is_killed_while_it_waits(monotonic: str) -> None:
    with FrozenClock(0, monotonic=monotonic) as clock:
        victim, other = (clock.popen(["sleep", "3600"]) for _ in range(2))
        clock.settle()
        victim.kill()
        assert victim.wait(CEILING_S) == -signal.SIGKILL
        assert [wait.pid for wait in clock.waits] == [other.pid]
        clock.advance(hours=1)
        assert other.poll() == 0


def test_a_program_spins_on_the_clock() -> None:
    script = "import time\nprint('up', flush=True)\nwhile True: time.time()"
    with FrozenClock(0) as clock:
        program = clock.popen([sys.executable, "-c", script], stdout=PIPE, text=True)
        assert program.stdout and program.stdout.readline() == "up\n"
        with pytest.raises(NotSettled, match=rf"python\S* \(pid {program.pid}\) runs") as caught:
            clock.advance(hours=1, timeout=0.2)
        assert len(caught.value.threads) == 1
        assert clock.time_ns() == 0  # it stays where it got to
        program.kill()
        program.communicate()
        clock.advance(hours=1)
        assert clock.time() == 3600


def test_advancing_from_two_threads() -> None:
    """One after the other."""
    script = "for i in $(seq 100); do sleep 60; done"
    with FrozenClock(0, monotonic="freeze") as clock:
        program = clock.popen(["bash", "-c", script])
        threads = [threading.Thread(target=clock.advance, args=(3600,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(CEILING_S)
        assert clock.time() == 7200
        assert program.poll() == 0


def test_the_clock_is_closed_while_it_advances() -> None:
    """A year of seconds would take its time."""
    errors: list[BaseException] = []
    with FrozenClock(0, monotonic="freeze") as clock:
        program = clock.popen(["bash", "-c", "while :; do sleep 1; done"])

        def advance() -> None:
            try:
                clock.advance(days=365)
            except ClockClosed as error:
                errors.append(error)

        thread = threading.Thread(target=advance)
        thread.start()
        while clock.time() < 10:
            time.sleep(0.001)
    thread.join(CEILING_S)
    assert len(errors) == 1
    assert program.returncode == -signal.SIGKILL


def test_somebody_keeps_a_program_busy() -> None:
    """Whom the clock knows nothing of; now and then he is too slow, and waited for."""
    with FrozenClock(0) as clock, subprocess.Popen(["yes"], stdout=PIPE) as feeder:
        program = clock.popen(["cat"], stdin=feeder.stdout, stdout=subprocess.DEVNULL)
        try:
            clock.advance(1, timeout=0.3)
        except NotSettled as error:
            assert "cat" in str(error)
        feeder.kill()
        assert feeder.stdout
        feeder.stdout.close()
        assert program.wait(CEILING_S) == 0
        clock.advance(1)


def test_beyond_the_year_9999() -> None:
    with FrozenClock("9999-12-31", monotonic="freeze") as clock:
        program = clock.popen(["sleep", "1000000"])
        clock.settle()
        assert clock.waits[0].remaining == 1_000_000
        with pytest.raises(ValueError, match="9999"):
            clock.advance_to_next()
        with pytest.raises(ValueError, match="9999"):
            clock.advance(days=2)
        clock.advance(hours=1)
        assert program.poll() is None


def test_a_jump_beyond_the_year_9999() -> None:
    """It is not made: the program goes on waiting, and the clock stays usable."""
    with FrozenClock("9999-12-31", autojump=True) as clock:
        sleep = clock.popen(["sleep", "1000000"])
        clock.run(["true"], check=True)
        clock.settle()
        assert sleep.poll() is None
        assert clock.now.isoformat() == "9999-12-31T00:00:00+00:00"


@pytest.mark.parametrize("delta", [-1, float("inf"), float("nan")])
def test_time_that_cannot_pass(delta: float) -> None:
    with FrozenClock(0) as clock:
        sleep = clock.popen(["sleep", "10"])
        with pytest.raises(ValueError):
            clock.advance(delta)
        clock.advance(11)
        assert sleep.poll() == 0


def test_nobody_is_left(build: Builder) -> None:
    """Timers that were set, and their descriptors, end with the clock."""
    script = (
        "import os, signal, time\nsignal.setitimer(signal.ITIMER_REAL, 3600)\n"
        "print('up', flush=True)\ntime.sleep(7200)"
    )
    with FrozenClock(0) as clock:
        before = set(os.listdir("/proc/self/fd"))
        program = clock.popen([sys.executable, "-c", script], stdout=PIPE, text=True)
        assert program.stdout and program.stdout.readline() == "up\n"
        clock.advance(hours=1)
        assert program.wait(CEILING_S) == -signal.SIGALRM
        program.stdout.close()
    assert set(os.listdir("/proc/self/fd")) <= before


Happening = Callable[[Loop], object]
Window = Callable[[FrozenClock, "subprocess.Popen[str]", Happening], None]


@pytest.fixture(params=[True, False], ids=["in-the-kernel", "behind-it"])
def before_call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Window:
    """Has a program that sleeps in a call get a signal that it ignores, which wakes the call up for
    the tracer alone; and something happen before it is made again: when the kernel has made that
    ready, or when the program is before its instruction."""
    arch, resume = host_arch(), Stopped.resume
    if arch.rewinds_early:
        pytest.skip("on this machine no register says there that it was in a call")

    def happen(clock: FrozenClock, program: subprocess.Popen[str], what: Happening) -> None:
        tracer, _ = clock.session.start_tracing()
        loop = tracer.call(lambda loop: loop)
        fastpath = loop.shortcuts.fastpath

        def resume_late(stopped: Stopped, number: int = 0) -> None:
            if number == signal.SIGHUP:
                monkeypatch.undo()
                # However busy the machine is, it is soon.
                fastpath.interrupted_of(stopped.tid).at_ns += CEILING_S * NS_PER_S
                what(loop)
                registers = stopped.registers()
                nr = getattr(registers, arch.interrupted_syscall)
                counter = getattr(registers, arch.program_counter) - len(arch.syscall_instruction)
                setattr(registers, arch.program_counter, counter)
                setattr(registers, arch.syscall_result, nr)
                again = nr if request.param else 2**64 - 1
                setattr(registers, arch.interrupted_syscall, again)
                stopped.set_registers(registers)
                fastpath.to_native(stopped.tid)
            resume(stopped, number)

        tracer.call(lambda _: fastpath.to_python(program.pid))
        monkeypatch.setattr(Stopped, "resume", resume_late)
        program.send_signal(signal.SIGHUP)

    return happen


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "python"])
def test_a_handler_before_a_call_is_made_again(is_native: bool, before_call: Window) -> None:
    script = (
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGUSR1, lambda *args: None)\n"
        "print('up', flush=True)\nsignal.pause()\nprint('ended')"
    )
    with closing(Tracer(is_native=is_native)) as tracer, clock_on(tracer, start=0) as clock:
        program = clock.popen([sys.executable, "-c", script], stdout=PIPE, text=True)
        assert program.stdout and program.stdout.readline() == "up\n"
        clock.settle()
        before_call(clock, program, lambda _: program.send_signal(signal.SIGUSR1))
        assert program.communicate(timeout=CEILING_S)[0] == "ended\n"


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "python"])
def test_an_interrupt_before_a_call_is_made_again(is_native: bool, before_call: Window) -> None:
    script = (
        "import select, signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "print('up', flush=True)\nselect.poll().poll(3600_000)\nprint('ended')"
    )
    with (
        closing(Tracer(is_native=is_native)) as tracer,
        clock_on(tracer, start=0, monotonic="freeze") as clock,
    ):
        program = clock.popen([sys.executable, "-c", script], stdout=PIPE, text=True)
        assert program.stdout and program.stdout.readline() == "up\n"
        clock.advance(1800)
        before_call(clock, program, lambda loop: loop.tasks[program.pid].interrupt())
        clock.settle()
        clock.advance(1800)
        assert program.communicate(timeout=CEILING_S)[0] == "ended\n"
