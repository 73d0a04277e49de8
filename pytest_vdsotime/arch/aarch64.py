"""64-bit Arm: registers by syscall(2), numbers by include/uapi/asm-generic/unistd.h."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

from pytest_vdsotime.arch.model import Abi, Arch

_MODE_32_BIT = 0x10  # PSR_MODE32_BIT, asm/ptrace.h

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

    #: (kind of set, its offset here, its size): NT_PRSTATUS, NT_ARM_SYSTEM_CALL (linux/elf.h).
    SETS = (1, 0, 34 * 8), (0x404, 34 * 8, 4)

    def complete(self, sizes: Sequence[int]) -> None:
        """After the sets were read, of which the kernel has given so many bytes: fewer of a
        32-bit program."""
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
    syscalls={
        "close": 57,
        "mmap": 222,
        "mprotect": 226,
        "munmap": 215,
        "openat": 56,
        "mremap": 216,
        "restart_syscall": 128,
        "kcmp": 272,
        "pidfd_getfd": 438,
        "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240,
    },
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
    frame_flags=(0xFFFFFFFF, 0x46508001),  # FPSIMD_MAGIC
    handlers_return=struct.pack("<2I", _NUMBER | 139 << 5, _CALL),  # rt_sigreturn
    restarting={
        "clock_nanosleep": (1, 1, 0),  # not TIMER_ABSTIME
        "futex": (1, 0x7F, 0),  # FUTEX_WAIT
        "nanosleep": (0, 0, 0),
    },
    rewinds_early=True,
    abis=(
        Abi(
            audit_arch=0xC00000B7,
            syscalls={
                "accept": 202,
                "accept4": 242,
                "adjtimex": 171,
                "clock_adjtime": 266,
                "clock_gettime": 113,
                "clock_nanosleep": 115,
                "clock_settime": 112,
                "clone": 220,
                "clone3": 435,
                "connect": 203,
                "epoll_pwait": 22,
                "epoll_pwait2": 441,
                "fcntl": 25,
                "flock": 32,
                "futex": 98,
                "futex_wait": 455,
                "futex_waitv": 449,
                "getitimer": 102,
                "getsockopt": 209,
                "gettimeofday": 169,
                "io_getevents": 4,
                "io_pgetevents": 292,
                "io_uring_enter": 426,
                "io_uring_setup": 425,
                "mq_timedreceive": 183,
                "mq_timedsend": 182,
                "nanosleep": 101,
                "ppoll": 73,
                "prctl": 167,
                "pselect6": 72,
                "ptrace": 117,
                "read": 63,
                "readv": 65,
                "recvfrom": 207,
                "recvmmsg": 243,
                "recvmsg": 212,
                "restart_syscall": 128,
                "rt_sigsuspend": 133,
                "rt_sigpending": 136,
                "signalfd4": 74,
                "rt_sigtimedwait": 137,
                "seccomp": 277,
                "semop": 193,
                "semtimedop": 192,
                "sendmmsg": 269,
                "sendmsg": 211,
                "sendto": 206,
                "setitimer": 103,
                "setns": 268,
                "setsockopt": 208,
                "settimeofday": 170,
                "sysinfo": 179,
                "timer_create": 107,
                "timer_delete": 111,
                "timer_getoverrun": 109,
                "timer_gettime": 108,
                "timer_settime": 110,
                "timerfd_gettime": 87,
                "timerfd_settime": 86,
                "times": 153,
                "unshare": 97,
                "userfaultfd": 282,
                "wait4": 260,
                "waitid": 95,
                "write": 64,
                "writev": 66,
            },
            arguments=_ARGUMENTS,
            long_size=8,
        ),
    ),
)
