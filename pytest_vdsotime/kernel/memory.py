"""The memory of another process, through /proc/PID/mem (proc(5)).

It reaches pages that the process itself may not write, such as those of its vDSO. The calls go
through `ctypes.PyDLL` and so keep the interpreter lock, for the reason told in ptrace.py.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from pytest_vdsotime.abi import constant, structure
from pytest_vdsotime.kernel.ptrace import Stopped, check_killed

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


_mmap = _libc.mmap
_mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,
)
_mmap.restype = ctypes.c_size_t
_MAP_FAILED = 2 ** (8 * ctypes.sizeof(ctypes.c_size_t)) - 1
_MAP_FIXED = constant("MAP_FIXED")  # the mmap module lacks it


_Span = structure("iovec")  # process_vm_readv(2)


def _transfer(function: Any, tid: int, address: int, buffer: Any, size: int) -> int | None:
    """Bytes moved; None where an undumpable program, or the kernel, is closed to this way."""
    here, there = _Span(ctypes.addressof(buffer), size), _Span(address, size)
    count: int = function(tid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    if count >= 0:
        return count
    number = ctypes.get_errno()
    if number in (errno.EPERM, errno.ENOSYS):  # without CONFIG_CROSS_MEMORY_ATTACH
        return None
    if number == errno.EFAULT:
        return 0
    if number == errno.ESRCH:
        check_killed(tid, f"memory of task {tid}")
    raise OSError(number, f"memory of task {tid}: {os.strerror(number)}")


def read_as_program(stopped: Stopped, address: int, size: int) -> bytes:
    """Read what the program itself could read. Raises MemoryError where it could not."""
    buffer = ctypes.create_string_buffer(size)
    count = _transfer(_libc.process_vm_readv, stopped.tid, address, buffer, size)
    if count is None:
        with _closed(stopped):
            return stopped.peek(address, size)
    if count != size:
        _have_stack_grow(stopped, address)
        count = _transfer(_libc.process_vm_readv, stopped.tid, address, buffer, size)
    if count != size:
        raise MemoryError(f"{size} bytes at {address:#x}")
    return buffer.raw


def write_as_program(stopped: Stopped, address: int, data: bytes) -> None:
    """Write where the program itself could write. Raises MemoryError where it could not."""
    buffer = ctypes.create_string_buffer(data, len(data))
    count = _transfer(_libc.process_vm_writev, stopped.tid, address, buffer, len(data))
    if count is None:
        with _closed(stopped):
            stopped.poke_bytes(address, data)
        return
    if count != len(data):
        _have_stack_grow(stopped, address)
        count = _transfer(_libc.process_vm_writev, stopped.tid, address, buffer, len(data))
    if count != len(data):
        raise MemoryError(f"{len(data)} bytes at {address:#x}")


@contextmanager
def _closed(stopped: Stopped) -> Iterator[None]:
    """Tell memory that is not there from memory that is closed.

    That of a program which has given up its rights, to a tracer without CAP_SYS_PTRACE
    (ptrace_access_vm, kernel/ptrace.c).

    Raises PermissionError for the latter.
    """
    try:
        yield
    except MemoryError:
        try:
            stopped.peek(stopped.system_call().counter, 1)  # the program's code, which is there
        except MemoryError:
            raise PermissionError(
                errno.EPERM,
                "it has given up its rights, and so its memory is closed to a tracer without "
                "CAP_SYS_PTRACE: run the tests with that capability, or the program as one user",
            ) from None
        raise


def _have_stack_grow(stopped: Stopped, address: int) -> None:
    """As it does when a system call of the program's own reads or writes below it.

    Since Linux 6.5 ptrace has it grow, but process_vm_readv does not (__access_remote_vm,
    mm/memory.c). Raises MemoryError where there is no memory.
    """
    stopped.peek(address, 1)


def read_running(tid: int, address: int, size: int) -> bytes:
    """Of a task that may be running; empty where it has no such memory, or is closed to this way.

    Raises OSError when it is gone.
    """
    buffer = ctypes.create_string_buffer(size)
    count = _transfer(_libc.process_vm_readv, tid, address, buffer, size)
    return buffer.raw if count == size else b""


def map_stub(fd: int, size: int, process_page: bytes, page_size: int) -> int:
    """Map a part of a clock's memfd here as the loader does in a program.

    See native_stub/program/loader.c. Returns where, or 0 where that cannot be.
    """
    readable, executable = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_EXEC
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
    start = _mmap(None, size, executable, mmap.MAP_PRIVATE, fd, 0)
    if start == _MAP_FAILED:
        return 0
    second = start + page_size
    if _MAP_FAILED in (
        _mmap(start, page_size, readable, mmap.MAP_SHARED | _MAP_FIXED, fd, 0),
        _mmap(second, page_size, readable | mmap.PROT_WRITE, anonymous, -1, 0),
    ):
        unmap(start, size)
        return 0
    ctypes.memmove(second, process_page, len(process_page))
    return int(start)


def unmap(start: int, size: int) -> None:
    """Undoes `map_stub`."""
    _libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(size))


def kernel_timezone(call: int) -> bytes:
    """Return the kernel's own struct timezone.

    By gettimeofday's system call: libc's function does not tell.
    """
    timezone = ctypes.create_string_buffer(8)
    _libc.syscall(ctypes.c_long(call), None, timezone)
    return timezone.raw


def kernel_timex() -> list[int]:
    """Return the fields of struct timex up to `tai`, as adjtimex(2) tells them without setting.

    None where a sandbox forbids it.
    """
    timex = (ctypes.c_long * 26)()
    return list(timex[:21]) if _libc.adjtimex(timex) >= 0 else []


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
        """Up to `size` bytes: fewer where the mapping ends.

        Raises OSError when there are none; ProcessLookupError when the address space is gone.
        """
        buffer = ctypes.create_string_buffer(size)
        count = _pread(self._fd, buffer, size, address)
        if count == 0:
            raise self._is_gone()
        if count < 0:
            raise _error("reading", self._pid)
        return ctypes.string_at(buffer, count)

    def write(self, address: int, data: bytes) -> None:
        """Write all of `data`.

        Raises OSError; ProcessLookupError when the address space is gone.
        """
        count = _pwrite(self._fd, data, len(data), address)
        if count == 0:
            raise self._is_gone()
        if count != len(data):
            raise _error("writing", self._pid)

    def _is_gone(self) -> ProcessLookupError:
        message = f"the address space of process {self._pid} is gone"
        return ProcessLookupError(errno.ESRCH, message)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

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
