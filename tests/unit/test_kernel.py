"""Raw wait statuses, the table of task states, and the images: no program is traced here."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vdsotime import image
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.errors import TracingUnavailable, VdsoTimeError
from pytest_vdsotime.future import Future
from pytest_vdsotime.image import HostVdso, fake_vdso
from pytest_vdsotime.kernel import descriptors, procfs, ptrace
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop, StopKind, decode, from_signal_info
from pytest_vdsotime.tracer.state import MOVES, TaskState

SIGTRAP = signal.SIGTRAP.value
STOPS = [
    (SIGTRAP | 1 << 8, StopKind.FORK, SIGTRAP),
    (SIGTRAP | 2 << 8, StopKind.VFORK, SIGTRAP),
    (SIGTRAP | 3 << 8, StopKind.CLONE, SIGTRAP),
    (SIGTRAP | 4 << 8, StopKind.EXEC, SIGTRAP),
    (SIGTRAP | 128 << 8, StopKind.TRAP, SIGTRAP),
    (signal.SIGSTOP | 128 << 8, StopKind.GROUP_STOP, signal.SIGSTOP),
    (signal.SIGTTIN | 128 << 8, StopKind.GROUP_STOP, signal.SIGTTIN),
    (SIGTRAP | 0x80, StopKind.SYSCALL, SIGTRAP | 0x80),
]


@pytest.mark.parametrize(("code", "kind", "value"), STOPS)
def test_stops_are_the_same_by_status_and_by_signal_info(
    code: int, kind: StopKind, value: int
) -> None:
    assert decode(7, code << 8 | 0x7F) == Stop(7, kind, value)
    assert from_signal_info(7, code & 0x7F, code) == Stop(7, kind, value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGTRAP, signal.SIGRTMAX])
@pytest.mark.parametrize(
    "code", [0, -1, -6, 1, 0x80]
)  # SI_USER, SI_QUEUE, SI_TKILL, a fault, SI_KERNEL
def test_signals(number: int, code: int) -> None:
    expected = Stop(7, StopKind.SIGNAL, number)
    assert decode(7, number << 8 | 0x7F) == expected
    assert from_signal_info(7, number, code) == expected


@pytest.mark.parametrize("status", [0, 3 << 8, signal.SIGKILL, signal.SIGSEGV | 0x80])
def test_ends(status: int) -> None:
    assert decode(7, status) == Stop(7, StopKind.EXITED, status)


def test_moves_are_total() -> None:
    assert len(MOVES) == len(TaskState)
    assert all(TaskState.GONE in moves for moves in MOVES[:-1])
    assert MOVES[TaskState.GONE] == ()


def test_a_spent_stop_is_spent() -> None:
    stopped = Stopped(os.getpid())
    with pytest.raises(ProcessLookupError):
        stopped.resume()  # no tracee of ours
    with pytest.raises(RuntimeError, match="resumed already"):
        stopped.resume()


def test_errors_of_ptrace_name_the_request() -> None:
    with pytest.raises(ProcessLookupError, match="PTRACE_INTERRUPT of 1:"):
        ptrace.interrupt(1)


def test_the_first_answer_stands() -> None:
    reply: Future[int] = Future()
    heard = []
    reply.then(lambda: heard.append(reply.result()))
    reply.give(1)
    reply.fail(ValueError())
    reply.then(lambda: heard.append(reply.result()))
    assert heard == [1, 1]


def test_every_symbol_of_the_kernels_vdso_is_there() -> None:
    arch = host_arch()
    host, fake = HostVdso.of_process("self", arch), fake_vdso(arch)
    assert host.image.symbols
    image.check_symbols(fake, host)


def test_an_unknown_symbol_is_refused_by_name() -> None:
    arch = host_arch()
    host = HostVdso.of_process("self", arch)
    newer = {**host.image.symbols, ("__vdso_clock_now", "LINUX_9"): 16}
    newer_host = host._replace(image=host.image._replace(symbols=newer))
    with pytest.raises(TracingUnavailable, match="__vdso_clock_now@LINUX_9.*upgrade"):
        image.check_symbols(fake_vdso(arch), newer_host)


def test_a_loader_failure_is_named() -> None:
    assert image.loader_failure(1 << 16 | 24) == ("openat", 24)
    with pytest.raises(VdsoTimeError, match="none of its failures"):
        image.loader_failure(0)


@pytest.mark.parametrize("late", ["before", "after"])
@pytest.mark.parametrize("step", range(9))
@pytest.mark.parametrize("by_ms", [5, 13, 18, 45])
def test_a_timerfd_is_disarmed_while_others_run(
    late: str, step: int, by_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late one of its steps is: it has expired as often as it could before it will next."""
    interval_ns, steps = 20 * 10**6, iter(range(100))
    fd = ctypes.CDLL(None).timerfd_create(time.CLOCK_MONOTONIC, 0)

    def slowly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            is_slow = next(steps) == step
            if is_slow and late == "before":
                time.sleep(by_ms / 1000)
            result = function(*arguments)
            if is_slow and late == "after":
                time.sleep(by_ms / 1000)
            return result

        return call

    begin_ns = time.monotonic_ns()
    descriptors.arm_timerfd(fd, begin_ns + interval_ns, interval_ns, is_absolute=True)
    time.sleep(0.047)
    for name in ("_left_ns", "_value_ns", "_take_ticks", "_bytes_read"):
        monkeypatch.setattr(descriptors, name, slowly(getattr(descriptors, name)))
    try:
        due_ns = descriptors.disarm_timerfd(fd, interval_ns)
        ticks = descriptors._unread_ticks(fd)
    finally:
        os.close(fd)
    assert ticks == round((due_ns - begin_ns) / interval_ns) - 1
    assert abs(begin_ns + (ticks + 1) * interval_ns - due_ns) < interval_ns / 4


#: Tells when it is about to read, and how often it has.
_READS = """
import os, sys
timer, told = int(sys.argv[1]), int(sys.argv[2])
while True:
    os.write(told, os.read(timer, 8))
"""


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("interval_ms", [0, 80, 120])
@pytest.mark.parametrize("by_ms", [15, 28])
def test_a_timerfd_expires_just_as_it_is_disarmed(
    by_ms: int, interval_ms: int, is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known whether a program has read that."""
    interval_ns = interval_ms * 10**6
    fd = ctypes.CDLL(None).timerfd_create(time.CLOCK_MONOTONIC, 0)
    told, to = os.pipe()
    command = [sys.executable, "-S", "-c", _READS, str(fd), str(to)]
    slow, counts = iter(range(5)), b""

    def monotonic_ns() -> int:
        host_ns = time.monotonic_ns()
        if next(slow, 0) == 4:  # just before the end
            time.sleep(by_ms / 1000)
        return host_ns

    with subprocess.Popen(command, pass_fds=(fd, to)) as reader:
        try:
            while procfs.blocked_call(reader.pid) is None:
                time.sleep(0.01)
            if not is_read:
                reader.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, reader.pid, os.WSTOPPED | os.WNOWAIT)
            first_ns = time.monotonic_ns() + 10**7
            descriptors.arm_timerfd(fd, first_ns, interval_ns, is_absolute=True)
            monkeypatch.setattr(
                descriptors, "time", SimpleNamespace(monotonic_ns=monotonic_ns, sleep=time.sleep)
            )
            due_ns = descriptors.disarm_timerfd(fd, interval_ns, [reader.pid])
            while is_read and (
                descriptors._unread_ticks(fd) or not procfs.blocked_call(reader.pid)
            ):
                time.sleep(0.001)
            unread = descriptors._unread_ticks(fd)
            os.set_blocking(told, False)
            with suppress(BlockingIOError):
                counts = os.read(told, 4096)
        finally:
            reader.kill()
            for one in (fd, told, to):
                os.close(one)
    read = sum(struct.unpack(f"{len(counts) // 8}Q", counts))
    passed = 1 + (round((due_ns - first_ns) / interval_ns) - 1 if interval_ns else 0)
    assert read + unread == passed
