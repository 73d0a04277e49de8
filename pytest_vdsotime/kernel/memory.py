"""The memory of another process, through /proc/PID/mem (proc(5)).

It reaches pages that the process itself may not write, such as those of its vDSO. The calls go
through `ctypes.PyDLL` and so keep the interpreter lock, for the reason told in ptrace.py.
"""

from __future__ import annotations

import ctypes
import os
from types import TracebackType

_libc = ctypes.PyDLL(None, use_errno=True)
_open = _libc.open
_open.argtypes = (ctypes.c_char_p, ctypes.c_int)
_close = _libc.close
_close.argtypes = (ctypes.c_int,)
_pread = _libc.pread64
_pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64)
_pread.restype = ctypes.c_ssize_t
_pwrite = _libc.pwrite64
_pwrite.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64)
_pwrite.restype = ctypes.c_ssize_t


def _error(operation: str, pid: int) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{operation} /proc/{pid}/mem: {os.strerror(number)}")


class ProcessMemory:
    """The address space that process `pid` had when this was opened.

    Raises PermissionError for a program closed to its tracer (execute-only file).
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fd: int = _open(b"/proc/%d/mem" % pid, os.O_RDWR | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("opening", pid)

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes: fewer where the mapping ends. Raises OSError when there are none."""
        buffer = ctypes.create_string_buffer(size)
        count = _pread(self._fd, buffer, size, address)
        if count <= 0:
            raise _error("reading", self._pid)
        return ctypes.string_at(buffer, count)

    def write(self, address: int, data: bytes) -> None:
        """Writes all of `data`. Raises OSError; ProcessLookupError when the address space is
        gone."""
        count = _pwrite(self._fd, data, len(data), address)
        if count == 0:
            raise ProcessLookupError(f"the address space of process {self._pid} is gone")
        if count != len(data):
            raise _error("writing", self._pid)

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            _close(self._fd)
            self._fd = -1

    def __enter__(self) -> ProcessMemory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
