"""ptrace(2) requests, over python-ptrace's binding; this module is its only importer.

The binding has the register structures and the older constants. It calls ptrace through
`ctypes.CDLL`, which gives up the interpreter lock at each call: with a busy test thread every one
of them could cost a switch interval (5 ms). A request never blocks, so it is made here through
`ctypes.PyDLL`, which keeps the lock.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import signal
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pytest_vdsotime.abi import constant, structure
from pytest_vdsotime.arch import own_registers
from pytest_vdsotime.kernel import procfs


@contextmanager
def _no_search_for_libc() -> Iterator[None]:
    """Have `find_library` name the libc that this process has, without starting ldconfig.

    `subprocess` may be patched to start programs on a clock, which is what is being imported.
    """
    find_library = ctypes.util.find_library

    def find(name: str) -> str | None:
        return None if name == "c" else find_library(name)

    ctypes.util.find_library = find
    try:
        yield
    finally:
        ctypes.util.find_library = find_library


with warnings.catch_warnings(), _no_search_for_libc():
    # python-ptrace 0.9.9 calls datetime.utcfromtimestamp on import, deprecated since Python 3.12.
    warnings.simplefilter("ignore", DeprecationWarning)
    from ptrace.binding import func as _binding

# What the binding lacks.
_PTRACE_SEIZE = constant("PTRACE_SEIZE")
_PTRACE_INTERRUPT = constant("PTRACE_INTERRUPT")
_PTRACE_LISTEN = constant("PTRACE_LISTEN")
_PTRACE_PEEKSIGINFO = constant("PTRACE_PEEKSIGINFO")
_PEEKSIGINFO_SHARED = constant("PTRACE_PEEKSIGINFO_SHARED")
_PTRACE_GETSIGMASK = constant("PTRACE_GETSIGMASK")
_PTRACE_SETSIGMASK = constant("PTRACE_SETSIGMASK")
_PTRACE_GET_SYSCALL_INFO = constant("PTRACE_GET_SYSCALL_INFO")
_PTRACE_O_TRACESECCOMP = constant("PTRACE_O_TRACESECCOMP")
_PTRACE_O_EXITKILL = constant("PTRACE_O_EXITKILL")
_PTRACE_O_SUSPEND_SECCOMP = constant("PTRACE_O_SUSPEND_SECCOMP")
_SYSCALL_INFO_ENTRY = constant("PTRACE_SYSCALL_INFO_ENTRY")
# struct ptrace_syscall_info: op, arch, instruction_pointer, stack_pointer, nr, args
_SYSCALL_INFO = struct.Struct("=B3xI2QQ6Q")
#: What si_code is at the stop for an exec (ptrace_event, include/linux/ptrace.h).
_EXEC_STOP = signal.SIGTRAP | _binding.PTRACE_EVENT_EXEC << 8
_SIGSET_SIZE = 8
_WORD_SIZE = ctypes.sizeof(ctypes.c_long)
_OWN_REGISTERS = own_registers()

#: Every child and thread is traced from its start, exec stops, and nothing outlives its tracer.
OPTIONS = (
    _PTRACE_O_EXITKILL
    | _binding.PTRACE_O_TRACESYSGOOD
    | _binding.PTRACE_O_TRACEFORK
    | _binding.PTRACE_O_TRACEVFORK
    | _binding.PTRACE_O_TRACECLONE
    | _binding.PTRACE_O_TRACEEXEC
    | _PTRACE_O_TRACESECCOMP
)

_ptrace = ctypes.PyDLL(None, use_errno=True).ptrace
_ptrace.argtypes = (ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p)
_ptrace.restype = ctypes.c_long
_blocking_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_blocking_ptrace.argtypes, _blocking_ptrace.restype = _ptrace.argtypes, _ptrace.restype

_NAMES = {
    value: name
    for name, value in (*vars(_binding).items(), *list(globals().items()))
    if name.lstrip("_").startswith("PTRACE_") and "_O_" not in name and "EVENT_" not in name
}


class _SignalInfo(ctypes.Structure):
    """The part of siginfo_t that every architecture has at the same place (sigaction(2))."""

    _fields_ = (
        ("si_signo", ctypes.c_int),
        ("si_errno", ctypes.c_int),
        ("si_code", ctypes.c_int),
        ("rest", ctypes.c_byte * 116),
    )


class SystemCall(NamedTuple):
    """What the kernel says of the system call that a task is stopped at."""

    is_entry: bool
    """At a system call stop: not the exit. What follows it is only known otherwise."""
    arch: int
    """AUDIT_ARCH_* (linux/audit.h)."""
    counter: int
    """The program counter, behind the instruction."""
    stack: int
    nr: int
    arguments: list[int]


def _request(
    request: int, tid: int, address: int = 0, data: Any = 0, *, may_block: bool = False
) -> int:
    result: int = (_blocking_ptrace if may_block else _ptrace)(request, tid, address, data)
    if result == -1:
        number = ctypes.get_errno()
        name = _NAMES.get(request, str(request)).lstrip("_")
        if number == errno.ESRCH and request != _binding.PTRACE_GETSIGINFO:
            check_killed(tid, f"{name} of {tid}")
        raise OSError(number, f"{name} of {tid}: {os.strerror(number)}")
    return result


def check_killed(tid: int, operation: str) -> None:
    """Raise OSError for a stopped task of which ESRCH says that it was killed.

    Nobody would resume it. One that was killed is in no stop any more, but for a leader whose place
    a thread has taken by an exec.
    """
    info = _SignalInfo()
    is_stopped = _ptrace(_binding.PTRACE_GETSIGINFO, tid, 0, ctypes.addressof(info)) == 0
    if is_stopped and info.si_code != _EXEC_STOP:
        raise OSError(errno.EIO, f"{operation}: {os.strerror(errno.ESRCH)}, though it is stopped")


_Span = structure("iovec")


def _transfer_sets(request: int, tid: int, registers: Any) -> list[int]:
    """Bytes moved of each set, up to the first that is not complete."""
    sizes: list[int] = []
    for kind, offset, size in registers.SETS:
        span = _Span(ctypes.addressof(registers) + offset, size)
        _request(request, tid, kind, ctypes.addressof(span))
        sizes.append(span.iov_len)
        if span.iov_len < size:
            break
    return sizes


def seize(tid: int, *, may_block: bool = False) -> None:
    """Becomes the tracer of a running task, without stopping it.

    It waits for an exec of that process to end (cred_guard_mutex, ptrace_attach, kernel/ptrace.c),
    with the interpreter lock unless it `may_block`.

    Raises OSError: PermissionError, ProcessLookupError when it has ended.
    """
    try:
        _request(_PTRACE_SEIZE, tid, 0, OPTIONS, may_block=may_block)
    except ProcessLookupError as error:
        fields = procfs.stat_fields(tid)
        if fields is not None and fields[0] not in "ZX":
            raise OSError(errno.EIO, f"{error.strerror}, though it is there") from None
        raise


def interrupt(tid: int) -> None:
    """Make a running task stop. Raises OSError; ProcessLookupError when it is no tracee."""
    try:
        _request(_PTRACE_INTERRUPT, tid)
    except ProcessLookupError as error:
        if procfs.tracer_of(tid) == threading.get_native_id() and not procfs.has_ended(tid):
            raise OSError(errno.EIO, f"{error.strerror}, though it is traced") from None
        raise


def signal_info(tid: int) -> tuple[int, int] | None:
    """(si_signo, si_code) of the stop that a task is in; None while it runs or when it is gone."""
    info = _SignalInfo()
    try:
        _request(_binding.PTRACE_GETSIGINFO, tid, 0, ctypes.addressof(info))
    except ProcessLookupError:
        return None
    return info.si_signo, info.si_code


_PeekArguments = structure("ptrace_peeksiginfo_args")


def has_signals(tid: int) -> bool:
    """Whether signals wait for a stopped task or for its process, blocked ones too.

    True also when it is gone: SIGKILL ends any stop.
    """
    info = _SignalInfo()
    arguments = _PeekArguments(nr=1)
    for arguments.flags in (0, _PEEKSIGINFO_SHARED):
        address, data = ctypes.addressof(arguments), ctypes.addressof(info)
        if _ptrace(_PTRACE_PEEKSIGINFO, tid, address, data) != 0:
            return True
    return False


class Stopped:
    """A task in a ptrace stop: the right to look into it, spent by resuming it.

    Every method raises ProcessLookupError when the task was killed meanwhile (SIGKILL ends any
    stop); its death is reported by waitpid like any other.
    """

    __slots__ = ("_spent", "tid")

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self._spent = False

    def _spend(self, request: int, data: int = 0) -> None:
        if self._spent:
            raise RuntimeError(f"task {self.tid} was resumed already")
        try:
            _request(request, self.tid, 0, data)
        except ProcessLookupError:
            self._spent = True
            raise
        self._spent = True

    def resume(self, signal: int = 0) -> None:
        """Lets it run on, delivering `signal` if it is in a signal-delivery stop."""
        self._spend(_binding.PTRACE_CONT, signal)

    def resume_to_syscall(self, signal: int = 0) -> None:
        """As `resume`, to its next system call's entry or exit."""
        self._spend(_binding.PTRACE_SYSCALL, signal)

    def step(self) -> None:
        """Lets it run one instruction; it then stops for a SIGTRAP."""
        self._spend(_binding.PTRACE_SINGLESTEP)

    def detach(self, signal: int = 0) -> None:
        """End the tracing, and let it run on as `resume` does."""
        self._spend(_binding.PTRACE_DETACH, signal)

    def signal(self) -> _SignalInfo:
        """Everything about the signal that is to be delivered."""
        info = _SignalInfo()
        _request(_binding.PTRACE_GETSIGINFO, self.tid, 0, ctypes.addressof(info))
        return info

    def set_signal(self, info: _SignalInfo) -> None:
        """Another one is to be delivered; `resume` and `detach` still say its number."""
        _request(_binding.PTRACE_SETSIGINFO, self.tid, 0, ctypes.addressof(info))

    def listen(self) -> None:
        """Leaves it in its group stop, as it would be alone; SIGCONT is reported as a new stop."""
        self._spend(_PTRACE_LISTEN)

    def registers(self) -> Any:
        """Return a new `user_regs_struct`, or one of `own_registers`."""
        if _OWN_REGISTERS is not None:
            registers = _OWN_REGISTERS()
            registers.complete(_transfer_sets(_binding.PTRACE_GETREGSET, self.tid, registers))
            return registers
        registers = _binding.ptrace_registers_t()
        _request(_binding.PTRACE_GETREGS, self.tid, 0, ctypes.addressof(registers))
        return registers

    def set_registers(self, registers: Any) -> None:
        """Write all registers."""
        if _OWN_REGISTERS is not None:
            _transfer_sets(_binding.PTRACE_SETREGSET, self.tid, registers)
            return
        _request(_binding.PTRACE_SETREGS, self.tid, 0, ctypes.addressof(registers))

    def event_message(self) -> int:
        """Return the id that an event tells.

        At a fork, vfork or clone that of the new task, at an exec the former one.
        """
        message = ctypes.c_ulong()
        _request(_binding.PTRACE_GETEVENTMSG, self.tid, 0, ctypes.addressof(message))
        return message.value

    def suspend_seccomp(self, is_suspended: bool) -> None:
        """Lets it make system calls whatever its filters decide, or ends that.

        Raises PermissionError for an ordinary user, OSError without CONFIG_CHECKPOINT_RESTORE.
        """
        options = OPTIONS | (_PTRACE_O_SUSPEND_SECCOMP if is_suspended else 0)
        _request(_binding.PTRACE_SETOPTIONS, self.tid, 0, options)

    def poke(self, address: int, word: int) -> None:
        """Write one aligned word of its memory."""
        _request(_binding.PTRACE_POKEDATA, self.tid, address, word)

    def peek(self, address: int, size: int) -> bytes:
        """Read its memory, word by word. Raises MemoryError where there is none, OSError."""
        start = address // _WORD_SIZE * _WORD_SIZE
        words = range(start, address + size, _WORD_SIZE)
        data = b"".join(self._peek_word(word) for word in words)
        return data[address - start :][:size]

    def poke_bytes(self, address: int, data: bytes) -> None:
        """Write its memory, word by word. Raises MemoryError where there is none."""
        start = address // _WORD_SIZE * _WORD_SIZE
        end = -(-(address + len(data)) // _WORD_SIZE) * _WORD_SIZE
        whole = bytearray(self.peek(start, end - start))
        whole[address - start : address - start + len(data)] = data
        for offset in range(0, len(whole), _WORD_SIZE):
            word = int.from_bytes(whole[offset : offset + _WORD_SIZE], "little")
            self.poke(start + offset, word)

    def _peek_word(self, address: int) -> bytes:
        ctypes.set_errno(0)
        word: int = _ptrace(_binding.PTRACE_PEEKDATA, self.tid, address, 0)
        number = ctypes.get_errno()
        if number == errno.ESRCH:
            operation = f"PTRACE_PEEKDATA of {self.tid}"
            check_killed(self.tid, operation)
            raise ProcessLookupError(number, f"{operation}: {os.strerror(number)}")
        if number and number not in (errno.EIO, errno.EFAULT):
            raise OSError(number, f"PTRACE_PEEKDATA of {self.tid}: {os.strerror(number)}")
        if number:
            raise MemoryError(f"{_WORD_SIZE} bytes at {address:#x}")
        return word.to_bytes(_WORD_SIZE, "little", signed=True)

    def signal_mask(self) -> int:
        """Return the signals that it blocks, as the kernel's bit set."""
        mask = ctypes.c_uint64()
        _request(_PTRACE_GETSIGMASK, self.tid, _SIGSET_SIZE, ctypes.addressof(mask))
        return mask.value

    def set_signal_mask(self, mask: int) -> None:
        """Replace the signals that it blocks."""
        word = ctypes.c_uint64(mask)
        _request(_PTRACE_SETSIGMASK, self.tid, _SIGSET_SIZE, ctypes.addressof(word))

    def system_call(self) -> SystemCall:
        """At a seccomp or system call stop (PTRACE_GET_SYSCALL_INFO, since Linux 5.3)."""
        info = ctypes.create_string_buffer(88)
        _request(_PTRACE_GET_SYSCALL_INFO, self.tid, len(info), ctypes.addressof(info))
        operation, arch, counter, stack, nr, *arguments = _SYSCALL_INFO.unpack_from(info)
        return SystemCall(operation == _SYSCALL_INFO_ENTRY, arch, counter, stack, nr, arguments)
