"""Between a child's birth and its exec (native_stub/tracer/spawn.c)."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock, VdsoTimeError, faults
from pytest_vdsotime.future import Future
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.spawn import PendingSpawns

CEILING_S = 30
YEAR = ["date", "-u", "+%Y"]


def has_tracer_do(clock: FrozenClock, action: Callable[[], object]) -> Callable[[int], None]:
    """Return what the tracer of this clock does at a named point, and the others pass by."""
    tracer, _ = clock.session.start_tracing()
    ident: Future[int] = Future()
    tracer.post(lambda loop: ident.give(threading.get_ident()), ident)
    tracer_ident = ident.result()

    def act(_pid: int) -> None:
        if threading.get_ident() == tracer_ident:
            action()

    return act


@contextmanager
def tracer_held(clock: FrozenClock, then: Callable[[], None] = lambda: None) -> Iterator[None]:
    """The tracer does not come, and afterwards does something else first."""
    tracer, _ = clock.session.start_tracing()
    is_held, goes_on = threading.Event(), threading.Event()

    def hold() -> None:
        if not is_held.is_set():
            is_held.set()
            goes_on.wait(CEILING_S)
            then()

    with faults.injected("loop", has_tracer_do(clock, hold)):
        tracer.post(lambda loop: None, Future())
        assert is_held.wait(CEILING_S)
        try:
            yield
        finally:
            goes_on.set()


def child_that_waits() -> int:
    """Of this process, and of its threads: one that has not executed its program, and that Python
    has no more to do with: signals are blocked there."""
    for _ in range(CEILING_S * 100):
        for thread in Path("/proc/self/task").iterdir():
            for pid in (thread / "children").read_text().split():
                with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                    is_same = os.readlink(f"/proc/{pid}/exe") == os.readlink("/proc/self/exe")
                    blocked = procfs.signal_masks(int(pid)).blocked
                    if is_same and blocked >> (signal.SIGUSR2 - 1) & 1:
                        return int(pid)
        time.sleep(0.01)
    raise AssertionError("there is none")


def test_it_waits_for_its_tracer() -> None:
    with FrozenClock(0) as clock, ThreadPoolExecutor(4) as pool:
        with tracer_held(clock):
            years = [pool.submit(clock.check_output, YEAR) for _ in range(4)]
            child_that_waits()
            time.sleep(0.1)
            assert not any(year.done() for year in years)
        assert [year.result(CEILING_S) for year in years] == [b"1970\n"] * 4


def test_its_tracer_fails_meanwhile() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with (
        pytest.raises(VdsoTimeError, match="the tracer failed"),
        FrozenClock(0) as clock,
        ThreadPoolExecutor(1) as pool,
    ):
        with tracer_held(clock, fail):
            started = pool.submit(clock.popen, YEAR)
            child_that_waits()
        started.result(CEILING_S)


def test_its_tracer_has_failed_before() -> None:
    """Between the last look at it and the birth."""

    def fail(_pid: int) -> None:
        failing = has_tracer_do(clock, lambda: 1 / 0)
        with faults.injected("loop", failing), pytest.raises(VdsoTimeError):
            while True:
                clock.settle()

    with pytest.raises(VdsoTimeError, match="the tracer failed"), FrozenClock(0) as clock:
        clock.run(YEAR, stdout=subprocess.DEVNULL)
        with faults.injected("announce", fail):
            clock.popen(YEAR)


def test_it_is_killed_meanwhile() -> None:
    with FrozenClock(0) as clock, ThreadPoolExecutor(1) as pool:
        with tracer_held(clock):
            started = pool.submit(clock.popen, YEAR)
            os.kill(child_that_waits(), signal.SIGKILL)
        assert started.result(CEILING_S).wait(CEILING_S) == -signal.SIGKILL


@pytest.mark.parametrize("keywords", [{}, {"preexec_fn": lambda: None}], ids=["alone", "preexec"])
def test_signals_of_the_test_process_are_not_the_childs(keywords: dict[str, Any]) -> None:
    """Its handlers would run in the child, which has the same memory."""
    heard = []
    former = signal.signal(signal.SIGUSR2, lambda *_: heard.append(os.getpid()))
    try:
        with FrozenClock(0) as clock, ThreadPoolExecutor(1) as pool:
            with tracer_held(clock):
                started = pool.submit(lambda: clock.popen(["sleep", "1h"], **keywords))
                os.kill(child_that_waits(), signal.SIGUSR2)
            assert started.result(CEILING_S).wait(CEILING_S) == -signal.SIGUSR2
    finally:
        signal.signal(signal.SIGUSR2, former)
    assert heard == []


def test_ignored_and_blocked_signals_stay_so() -> None:
    """As subprocess has it, which takes back what Python itself ignores."""
    script = "grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status"
    former = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        with FrozenClock(0) as clock:
            for restores in (True, False):
                bare, traced = (
                    check_output(["sh", "-c", script], restore_signals=restores)
                    for check_output in (subprocess.check_output, clock.check_output)
                )
                assert traced == bare
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR2, former)


def test_somebody_has_wrapped_what_subprocess_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tools do that tell of subprocesses; what they do is not left out."""
    execute_child = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    seen = []

    @functools.wraps(execute_child)
    def wrapped(self: object, *args: object) -> None:
        seen.append(args[0])
        execute_child(self, *args)

    with FrozenClock(0) as clock:
        monkeypatch.setattr(subprocess.Popen, "_execute_child", wrapped)
        assert clock.check_output(YEAR) == b"1970\n"
    assert len(seen) == 1


AUDITED = """
import sys
from pytest_vdsotime import FrozenClock
seen = []
sys.addaudithook(lambda event, args: seen.append(args[:2]) if event == "subprocess.Popen" else None)
with FrozenClock(0) as clock:
    clock.run(["date", "-u"])
assert seen == [("date", ["date", "-u"])], seen
"""


def test_audit_hooks_hear_of_the_program() -> None:
    subprocess.run([sys.executable, "-c", AUDITED], check=True, timeout=CEILING_S)


REFUSE_CALLS = Path(__file__).parents[1] / "plugin" / "refuse_calls.py"
OLD_KERNEL = """
import os, signal
from pytest_vdsotime import FrozenClock

script = "date -u +%Y; ls /proc/self/fd | wc -l"
read, write = os.pipe()
os.set_inheritable(read, True)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
mask = r"grep -E 'Sig(Ign|Cgt|Blk)' /proc/self/status; kill -USR1 $$"
with FrozenClock(0) as clock:
    for keywords in {}, {"preexec_fn": lambda: None}:
        # stdin, stdout, stderr and that of the listing
        assert clock.check_output(["sh", "-c", script], **keywords) == b"1970\\n4\\n"
        kept = {"pass_fds": [write], **keywords}
        assert clock.check_output(["sh", "-c", script], **kept) == b"1970\\n5\\n"
        kept = {"close_fds": False, **keywords}
        assert clock.check_output(["sh", "-c", script], **kept) == b"1970\\n5\\n"
        assert clock.run(["sh", "-c", mask], **keywords).returncode == -signal.SIGUSR1
        try:
            clock.run(["no-such-program"], **keywords)
        except FileNotFoundError as error:
            assert error.filename == "no-such-program"
        else:
            raise AssertionError
"""


@pytest.mark.parametrize("refused", ["clone3", "close_range", "clone3,close_range"])
def test_an_old_kernel(refused: str) -> None:
    """The child has a copy of the memory, and closes its descriptors one by one."""
    program = [sys.executable, "-c", OLD_KERNEL]
    command = [sys.executable, str(REFUSE_CALLS), refused, *program]
    subprocess.run(command, check=True, timeout=CEILING_S)


def test_starts_that_fail_before_there_is_a_child() -> None:
    """The tracer looks out for one meanwhile."""

    def fail(word: Any, error: type[Exception]) -> None:
        for _ in range(50):
            with pytest.raises(error):
                clock.popen(["date", word])

    with FrozenClock(0) as clock, ThreadPoolExecutor(4) as pool:
        failures = [pool.submit(fail, "a\0b", ValueError), pool.submit(fail, 1, TypeError)]
        years = [pool.submit(clock.check_output, YEAR) for _ in range(50)]
        assert [year.result(CEILING_S) for year in years] == [b"1970\n"] * 50
        for failure in failures:
            failure.result(CEILING_S)


def test_more_starts_at_once_than_the_tracer_looks_out_for() -> None:
    count = PendingSpawns.ROOM + 16
    with FrozenClock(0) as clock, ThreadPoolExecutor(count) as pool:
        with tracer_held(clock):
            years = [pool.submit(clock.check_output, YEAR) for _ in range(count)]
            child_that_waits()
            time.sleep(0.5)
        assert [year.result(CEILING_S) for year in years] == [b"1970\n"] * count
