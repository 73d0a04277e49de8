"""Signals as the kernel's own timers send them (rt_sigqueueinfo(2))."""

from __future__ import annotations

import ctypes
import os
import struct

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import host_arch

SI_TIMER, SI_KERNEL = constant("SI_TIMER"), constant("SI_KERNEL")
#: si_tid, si_overrun, si_value and si_sys_private, at which programs do not look; and where they
#: are behind si_code
TIMER_FIELDS, TIMER_OFFSET = struct.Struct("=iiQi"), 4
_SIZE = 128
#: si_signo, si_errno, si_code; behind padding the fields of a timer
_LAYOUT = struct.Struct("=iii4xiiQi")

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def queue(
    pid: int, tid: int, signal: int, *, number: int, overrun: int, value: int, private: int = 0
) -> None:
    """Send what a timer `number` sends: to a thread, or with `tid` 0 to the process.

    `private` is for the tracer alone.

    Raises OSError: EAGAIN beyond RLIMIT_SIGPENDING, ProcessLookupError.
    """
    fields = number, overrun, value % 2**64, private
    info = _LAYOUT.pack(signal, 0, SI_TIMER, *fields).ljust(_SIZE, b"\0")
    name = "rt_tgsigqueueinfo" if tid else "rt_sigqueueinfo"
    targets = (pid, tid) if tid else (pid,)
    arguments = (ctypes.c_long(one) for one in (host_arch().syscalls[name], *targets, signal))
    if _libc.syscall(*arguments, ctypes.c_char_p(info)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name} to process {pid}: {os.strerror(code)}")
