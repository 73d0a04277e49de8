"""The only waitpid of the package; a raw status becomes a Stop.

`__WNOTHREAD` keeps to this thread's tracees: without it the tracer would take children of other
threads, the test's own. `__WALL` covers threads and clones without SIGCHLD. See wait(2), ptrace(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from enum import IntEnum
from typing import NamedTuple

_WNOTHREAD = 0x20000000
_WALL = 0x40000000
_OPTIONS = _WNOTHREAD | _WALL
_EVENT_STOP = 128
_SIGTRAP = int(signal.SIGTRAP)
_SYSCALL_TRAP = _SIGTRAP | 0x80  # PTRACE_O_TRACESYSGOOD


class StopKind(IntEnum):
    """Why waitpid returned."""

    FORK = 1  # the events' values are the kernel's (linux/ptrace.h)
    VFORK = 2
    CLONE = 3
    EXEC = 4
    SECCOMP = 7
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
    """A Stop from waitpid's raw status."""
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
    """The Stop of a task that is in one, from PTRACE_GETSIGINFO: si_code holds the event for every
    stop that is not a signal's delivery (ptrace_do_notify, kernel/signal.c)."""
    if code == _SYSCALL_TRAP or (code > 0 and code >> 8):
        return decode(tid, code << 8 | 0x7F)
    return decode(tid, number << 8 | 0x7F)


_wait4 = ctypes.CDLL(None, use_errno=True).wait4
_wait4.argtypes = (ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.c_int, ctypes.c_void_p)
_poll4 = ctypes.PyDLL(None).wait4  # keeps the interpreter lock, as it never blocks
_poll4.argtypes = _wait4.argtypes


def wait_any() -> Stop | None:
    """Blocks for the next report about any tracee of this thread. The interpreter lock is free
    meanwhile. None: a signal to this thread ended the waiting, which os.waitpid would go on with.

    Raises ChildProcessError when there is no tracee.
    """
    status = ctypes.c_int()
    pid = _wait4(-1, status, _OPTIONS, None)
    if pid < 0:
        number = ctypes.get_errno()
        if number == errno.EINTR:
            return None
        raise OSError(number, f"waiting for tracees: {os.strerror(number)}")
    return decode(pid, status.value)


def reap(pid: int) -> None:
    """Waits for the end of a killed child of this process, traced or not."""
    try:
        while os.WIFSTOPPED(os.waitpid(pid, _WALL)[1]):
            pass
    except ChildProcessError:
        pass  # somebody else did


def poll(tid: int) -> Stop | None:
    """The waiting report about one task, or None; ChildProcessError when it is no tracee any
    more."""
    pid, status = os.waitpid(tid, _OPTIONS | os.WNOHANG)
    return decode(pid, status) if pid else None
