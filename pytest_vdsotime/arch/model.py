"""The records of facts in which architectures differ."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pytest_vdsotime.abi import constant, offset


class StampLayout(NamedTuple):
    """Where a system call leaves time stamps of a file."""

    argument: int
    """Which one points there."""
    places: tuple[int, ...]
    """Of the stamps, in bytes."""
    second_size: int = 8
    """Of their fields, which are one behind the other."""
    nanosecond_size: int = 8


def stat_layout(argument: int) -> StampLayout:
    """Return the layout of a call that leaves a struct stat of a machine with a tracer."""
    places = tuple(constant(f"STAT_{name}TIME") for name in "ACM")
    return StampLayout(argument, places)


#: struct statx, of any machine (linux/stat.h).
STATX = StampLayout(
    4, tuple(offset("statx", f"stx_{name}time") for name in "abcm"), nanosecond_size=4
)


class Abi(NamedTuple):
    """One way in which programs on an architecture make system calls."""

    audit_arch: int
    """What a seccomp filter sees of it (linux/audit.h)."""
    syscalls: Mapping[str, int]
    """The numbers of all calls; a name that it lacks it has no call for."""
    arguments: tuple[str, ...]
    """Registers of a 64-bit tracer's structure."""
    long_size: int
    """In bytes; its timespec and timeval are pairs of longs."""
    stamps: Mapping[str, StampLayout]
    """The calls that tell stamps of files."""
    returns: Mapping[str, int] = MappingProxyType({})
    """By name, the number of the place in a program where a call may return to: what the kernel has
    left is seen to there (`VdsoImage.call_returns`)."""
    refused_bit: int = 0
    """Numbers with this bit are of another ABI, whose calls are answered as by kernels without
    it."""

    @property
    def mask(self) -> int:
        """Of the part of a register that an argument takes."""
        return int(2 ** (8 * self.long_size) - 1)

    def pair(self, time64: bool) -> struct.Struct:
        """Return a timespec or timeval, or with `time64` one with 64-bit fields."""
        return _PAIR_64 if time64 or self.long_size == 8 else _PAIR_32

    def pack_pair(self, time64: bool, first: int, second: int) -> bytes:
        """As the kernel writes one.

        Seconds that do not fit are cut (put_old_timespec32, kernel/time/time.c).
        """
        pair = self.pair(time64)
        half = 1 << (4 * pair.size - 1)
        return pair.pack((first + half) % (2 * half) - half, second)

    def pack_span(self, time64: bool, span_ns: int, unit_ns: int = 1) -> bytes:
        """Return a span of time, in seconds and in units of so many nanoseconds.

        The kernel knows none beyond KTIME_MAX (linux/ktime.h).
        """
        seconds, rest_ns = divmod(min(span_ns, _KTIME_MAX), 1_000_000_000)
        return self.pack_pair(time64, seconds, rest_ns // unit_ns)


_KTIME_MAX = 2**63 - 1
_PAIR_64 = struct.Struct("<qq")
_PAIR_32 = struct.Struct("<ii")


class Arch(NamedTuple):
    """Facts about one architecture.

    The registers are names of fields in python-ptrace's `user_regs_struct`, or in
    `own_registers()`.
    """

    name: str
    """As `uname -m` has it, or what zig calls it."""
    word: str
    """A word of the program's stack, as an `array` type code."""
    program_counter: str
    stack_pointer: str
    syscall_number: str
    """Set to inject a system call."""
    interrupted_syscall: str
    """Set to -1: nothing to restart when the task is resumed elsewhere."""
    syscall_result: str
    syscall_arguments: tuple[str, ...]
    syscall_instruction: bytes
    syscalls: Mapping[str, int]
    jump: Callable[[int], bytes]
    """Code that goes on at an address, and touches no register that a function may not."""
    raw_function: Callable[[int], bytes]
    """A C function that makes a system call of this number with its two arguments."""
    program_mode: tuple[str, int, int]
    """The register that tells a program of this architecture, the bits that do, and their value."""
    mmap_unit: int
    """What the offset of its mmap counts, in bytes."""
    vdso_entries: tuple[str, ...]
    """The functions of the kernel's vDSO for struct vdso_process (native_stub/program/page.h), in
    its order; empty where there is none."""
    kept_symbols: frozenset[str]
    """Functions of the kernel's vDSO that stay its own."""
    vsyscall_caller: int | None
    """Where on the stack the caller is, in a system call made by the vDSO on behalf of others."""
    zero_at_entry: tuple[str, ...]
    """Registers that a new program finds zero."""
    frame_words: tuple[int, int]
    """In the frame of a signal handler, how many words behind the interrupted program counter the
    code segment and the flags stand (asm/sigcontext.h), or what is as good to tell it by."""
    frame_stack: tuple[int, int]
    """And before it the start and the size of the alternate stack (asm/ucontext.h)."""
    frame_flags: tuple[int, int]
    """Bits of those flags that tell, and their value."""
    abis: tuple[Abi, ...]
    """All in which a program can make system calls, its own first."""
    utmp: tuple[int, int, int] = 384, 340, 4
    """Of struct utmp (utmp(5)) its size, where its time is, and how wide the two fields of that."""
    trap_instruction: bytes = b""
    """That of a breakpoint, where the program counter is behind it when its signal comes."""
    handlers_return: bytes = b""
    """The code that signal handlers return to, where that is in the kernel's vDSO."""
    restarting: Mapping[str, tuple[int, int, int]] = MappingProxyType({})
    """Calls that go on by restart_syscall (restart_syscall(2)), where the tracer has to know: if an
    argument, of these bits, has this value."""
    runs_too: tuple[Arch, ...] = ()
    """Other kinds of program that its kernels run."""
    foreign_call: bytes = b""
    """A function (number, first, second) that makes a system call of the second ABI, if any."""
    time_program: bytes = b""
    """An ELF file without a libc that exits with what time() says, at most 255; of `runs_too`."""
    rewinds_early: bool = False
    """A system call that was interrupted is made ready to be made again before the tracer sees that
    stop: how it had ended shows at its exit alone."""
    keeps_registers: str = ""
    """The flag of processors on which a system call leaves all registers: none has where it is to
    return to (`VdsoImage.call_returns`)."""
    maps_history_apart: bool = False
    """Its loader maps the history of the wall line by itself, not with the image."""
    vsyscall_time: int = 0
    """Where the legacy vsyscall page has `time`; 0 where there never was one."""

    def runs_in(self, registers: Any) -> bool:
        """Whether a program with these registers is one of this architecture."""
        name, mask, value = self.program_mode
        return bool(getattr(registers, name) & mask == value)
