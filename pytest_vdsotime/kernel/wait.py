"""What Python waits for itself, beside the fast path; a raw status becomes a Stop.

`__WNOTHREAD` keeps to this thread's tracees: without it the tracer would take children of other
threads, the test's own. `__WALL` covers threads and clones without SIGCHLD. See wait(2), ptrace(2).
"""

from __future__ import annotations

import os
import posix
import signal
from contextlib import suppress
from enum import IntEnum
from typing import NamedTuple

from pytest_vdsotime.abi import constant

_WNOTHREAD, _WALL = constant("__WNOTHREAD"), constant("__WALL")
#: The kernel's own, whatever stands in the place of those of `os` (child_waits.py).
_waitid, _waitpid = posix.waitid, posix.waitpid
_OPTIONS = _WNOTHREAD | _WALL
_EVENT_STOP = constant("PTRACE_EVENT_STOP")
_SIGTRAP = int(signal.SIGTRAP)
_SYSCALL_TRAP = _SIGTRAP | 0x80  # PTRACE_O_TRACESYSGOOD


class StopKind(IntEnum):
    """Why waitpid returned."""

    FORK = constant("PTRACE_EVENT_FORK")
    VFORK = constant("PTRACE_EVENT_VFORK")
    CLONE = constant("PTRACE_EVENT_CLONE")
    EXEC = constant("PTRACE_EVENT_EXEC")
    SECCOMP = constant("PTRACE_EVENT_SECCOMP")
    TRAP = 8
    """A new task's first stop, an interrupt, or the end of a group stop."""
    GROUP_STOP = 9
    SIGNAL = 10
    """A signal is about to be delivered; `value` is its number."""
    SYSCALL = 11
    EXITED = 12
    """`value` is the status, as waitpid gave it; killed by a signal included."""


class Stop(NamedTuple):
    """One report of waitpid."""

    tid: int
    kind: int
    """A StopKind; a plain int, as it is looked up at every stop."""
    value: int


def decode(tid: int, status: int) -> Stop:
    """Return a Stop from waitpid's raw status."""
    if status & 0xFF != 0x7F:
        return Stop(tid, StopKind.EXITED.value, status)
    number = status >> 8 & 0xFF
    event = status >> 16
    if event == 0:
        if number == _SYSCALL_TRAP:
            return Stop(tid, StopKind.SYSCALL.value, number)
        return Stop(tid, StopKind.SIGNAL.value, number)
    if event == _EVENT_STOP:
        kind = StopKind.TRAP if number == _SIGTRAP else StopKind.GROUP_STOP
        return Stop(tid, kind.value, number)
    return Stop(tid, event, number)


def from_signal_info(tid: int, number: int, code: int) -> Stop:
    """Return the Stop of a task that is in one, from PTRACE_GETSIGINFO.

    There si_code holds the event for every stop that is not a signal's delivery, and the signal's
    number below it (ptrace_do_notify, kernel/signal.c).
    """
    is_event = code > 0 and code >> 8 and code & 0xFF == number
    if is_event or (number, code) == (_SIGTRAP, _SYSCALL_TRAP):
        return decode(tid, code << 8 | 0x7F)
    return decode(tid, number << 8 | 0x7F)


def has_report(tid: int) -> bool:
    """Whether a task has a stop that is yet to be reported."""
    options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT | _OPTIONS
    with suppress(ChildProcessError):
        return _waitid(os.P_PID, tid, options) is not None
    return False


def reap(pid: int) -> None:
    """Wait for the end of a killed child of this process, traced or not."""
    try:
        while os.WIFSTOPPED(_waitpid(pid, _WALL)[1]):
            pass
    except ChildProcessError:
        pass  # another thread did


def take_end(tid: int) -> None:
    """Reaps a tracee of this thread that has ended."""
    with suppress(ChildProcessError):  # another thread did
        _waitid(os.P_PID, tid, os.WEXITED | os.WNOHANG | _OPTIONS)


def has_left_status(pid: int) -> bool:
    """Whether a child of this process has ended and nobody has waited for it."""
    try:
        return _waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
