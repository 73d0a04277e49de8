"""64-bit Arm: registers by syscall(2)."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

from pytest_vdsotime.abi import constant, syscalls
from pytest_vdsotime.arch.model import STATX, Abi, Arch, stat_layout

_MODE_32_BIT = constant("PSR_MODE32_BIT")
_SYSCALLS = syscalls("aarch64")

# Arm ARM, C6.2
_LANDING_PAD, _RETURN, _NOP = 0xD503245F, 0xD65F03C0, 0xD503201F  # bti c; ret; nop
_LOAD_FROM_16, _BRANCH = 0x58000070, 0xD61F0200  # at 4: ldr x16, 16; br x16
_NUMBER, _CALL = 0xD2800008, 0xD4000001  # mov x8, #0; svc #0


class Registers(ctypes.Structure):
    """What native_stub/arch/aarch64.h calls `struct registers`."""

    _fields_ = (
        *((f"x{number}", ctypes.c_uint64) for number in range(31)),
        *((name, ctypes.c_uint64) for name in ("sp", "pc", "pstate", "syscall")),
    )
    pstate: int
    syscall: int

    #: (kind of set, its offset here, its size).
    SETS = (constant("NT_PRSTATUS"), 0, 34 * 8), (constant("NT_ARM_SYSTEM_CALL"), 34 * 8, 4)

    def complete(self, sizes: Sequence[int]) -> None:
        """After the sets were read, of which the kernel has given so many bytes.

        Fewer of a 32-bit program.
        """
        if sizes[0] < self.SETS[0][2]:
            self.pstate, self.syscall = _MODE_32_BIT, 2**64 - 1
        else:
            self.syscall = (self.syscall & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


def _jump(address: int) -> bytes:
    return struct.pack("<4IQ", _LANDING_PAD, _LOAD_FROM_16, _BRANCH, _NOP, address)


def _raw_function(number: int) -> bytes:
    return struct.pack("<4I", _LANDING_PAD, _NUMBER | number << 5, _CALL, _RETURN)


_ARGUMENTS = ("x0", "x1", "x2", "x3", "x4", "x5")

AARCH64 = Arch(
    name="aarch64",
    word="Q",
    program_counter="pc",
    stack_pointer="sp",
    syscall_number="x8",
    interrupted_syscall="syscall",
    syscall_result="x0",
    syscall_arguments=_ARGUMENTS,
    syscall_instruction=struct.pack("<I", _CALL),
    syscalls=_SYSCALLS,
    mmap_unit=1,
    jump=_jump,
    raw_function=_raw_function,
    program_mode=("pstate", _MODE_32_BIT, 0),
    vdso_entries=(
        *("__kernel_clock_gettime", "__kernel_gettimeofday", "__kernel_clock_getres"),
        *("", "__kernel_getrandom", ""),
    ),
    kept_symbols=frozenset({"__kernel_rt_sigreturn"}),
    vsyscall_caller=None,
    # start_thread_common, arch/arm64/include/asm/processor.h
    zero_at_entry=tuple(f"x{number}" for number in range(31)),
    frame_words=(1, 3),  # the latter the first of its further records
    frame_stack=(53, 51),
    frame_flags=(0xFFFFFFFF, constant("FPSIMD_MAGIC")),
    handlers_return=struct.pack("<2I", _NUMBER | _SYSCALLS["rt_sigreturn"] << 5, _CALL),
    restarting={
        "clock_nanosleep": (1, 1, 0),  # not TIMER_ABSTIME
        "futex": (1, 0x7F, constant("FUTEX_WAIT")),
        "nanosleep": (0, 0, 0),
    },
    rewinds_early=True,
    utmp=(400, 344, 8),
    abis=(
        Abi(
            audit_arch=constant("AUDIT_ARCH_AARCH64"),
            syscalls=_SYSCALLS,
            arguments=_ARGUMENTS,
            long_size=8,
            stamps={"newfstatat": stat_layout(2), "fstat": stat_layout(1), "statx": STATX},
            returns={"newfstatat": 0, "fstat": 1, "statx": 2},
        ),
    ),
)
