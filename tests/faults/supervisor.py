"""Has one call of one thread fail, by seccomp's user notification (seccomp_unotify(2)).

The thread's calls wait for another process, which lets each be made but the one that is to fail.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pytest_vdsotime.abi import syscalls
from pytest_vdsotime.arch import host_arch

_NUMBERS = syscalls(host_arch().name)
_NAMES = {nr: name for name, nr in _NUMBERS.items()}
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
# linux/seccomp.h
_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 8, 32
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_GO_ON = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_RESPONSE = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
_INSTRUCTION = struct.Struct("=HBBI")
_ARGUMENTS_AT = 16  # in struct seccomp_data
_LISTENER = struct.Struct("=ii")
#: Calls of which an argument says what they are for: which it is.
_SAYING = {"ptrace": 0, "ioctl": 1, "fcntl": 1, "prctl": 0, "kcmp": 2}


class Call(NamedTuple):
    """What a thread asks the kernel for."""

    name: str
    what: int | None = None
    """The argument that says it, of those where one does."""


def _call_of(nr: int, arguments: Sequence[int]) -> Call:
    name = _NAMES.get(nr, str(nr))
    place = _SAYING.get(name)
    return Call(name, None if place is None else arguments[place] & 0xFFFFFFFF)


def filter_of(calls: Iterable[Call]) -> bytes:
    """The code that has these calls wait, all of a name where `what` is None."""
    code: list[bytes] = []
    for call in calls:
        if call.name not in _NUMBERS:
            continue  # another architecture has it
        is_all = call.what is None
        code.append(_INSTRUCTION.pack(_LOAD, 0, 0, 0))
        code.append(_INSTRUCTION.pack(_EQUAL, 0, 1 if is_all else 3, _NUMBERS[call.name]))
        if call.what is not None:
            code.append(_INSTRUCTION.pack(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * _SAYING[call.name]))
            code.append(_INSTRUCTION.pack(_EQUAL, 0, 1, call.what))
        code.append(_INSTRUCTION.pack(_RETURN, 0, 0, _NOTIFY))
    code.append(_INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW))
    return b"".join(code)


def supervise(code: bytes, shared: mmap.mmap) -> None:
    """On this thread from now on, for whoever has the memory too."""
    libc = ctypes.CDLL(None, use_errno=True)
    tid = libc.gettid()
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("=H6xQ", len(code) // _INSTRUCTION.size, ctypes.addressof(buffer))
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):  # the former since Linux 5.19
        listener = libc.syscall(_NUMBERS["seccomp"], _SET_MODE_FILTER, flags, program)
        if listener >= 0:
            shared[: _LISTENER.size] = _LISTENER.pack(tid, listener)
            return
    raise OSError(ctypes.get_errno(), "seccomp")


class Supervisor:
    """Counts the calls, and has the nth of `target` fail."""

    def __init__(
        self, shared: mmap.mmap, pidfd: int, target: Call | None, nth: int, error: int
    ) -> None:
        self._shared, self._pidfd = shared, pidfd
        self._target, self._nth, self._error = target, nth, error
        self._tid = 0
        self.counts: Counter[Call] = Counter()
        self.has_failed = False
        self.listener = -1
        self.is_over = False

    def look(self) -> None:
        """For the thread, which may not have begun yet."""
        self._tid, number = _LISTENER.unpack(self._shared[: _LISTENER.size])
        if self._tid and self.listener < 0 and not self.is_over:
            self.listener = ctypes.CDLL(None).syscall(
                _NUMBERS["pidfd_getfd"], self._pidfd, number, 0
            )
            self.is_over = self.listener < 0

    def serve(self) -> None:
        """One call that waits."""
        received = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, received)
            key, tid, _, nr, _, _, *arguments = _NOTIFICATION.unpack(received)
            error, flags = 0, _GO_ON
            if tid == self._tid:  # what it has started has the filter too
                call = _call_of(nr, arguments)
                self.counts[call] += 1
                if call == self._target and self.counts[call] == self._nth:
                    self.has_failed = True
                    error, flags = -self._error, 0
            fcntl.ioctl(self.listener, _SEND, bytearray(_RESPONSE.pack(key, 0, error, flags)))
        except OSError as failure:
            # It was killed, or a signal has come, meanwhile; or none is left.
            if failure.errno not in (errno.ENOENT, errno.EINTR, errno.EINPROGRESS):
                self.close()

    def close(self) -> None:
        self.is_over = True
        if self.listener >= 0:
            os.close(self.listener)
        self.listener = -1
