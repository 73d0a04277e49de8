"""32-bit x86 programs on an x86-64 kernel, in the registers of a 64-bit tracer.

In python-ptrace's structure eip is in rip, ebx in rbx, and so on. System calls by int 0x80
(syscall(2)).
"""

from __future__ import annotations

import struct

from pytest_vdsotime.abi import constant, syscalls
from pytest_vdsotime.arch.model import STATX, Abi, Arch, StampLayout

#: The code segment of a 32-bit program (__USER32_CS, arch/x86/include/asm/segment.h).
_USER32_CS = 0x23

_SYSCALLS = dict(syscalls("i386"))
# libc's select(2) is the newer of two; here each has the name of its function (syscall_32.tbl).
_SYSCALLS.update(old_select=_SYSCALLS["select"], select=_SYSCALLS.pop("_newselect"))

#: struct stat64 (arch/x86/include/uapi/asm/stat.h, as the others).
_STAT64 = StampLayout(1, (64, 72, 80), 4, 4)

#: Any program on x86 can make these calls, a 64-bit one too.
I386_CALLS = Abi(
    audit_arch=constant("AUDIT_ARCH_I386"),
    syscalls=_SYSCALLS,
    arguments=("rbx", "rcx", "rdx", "rsi", "rdi", "rbp"),
    long_size=4,
    stamps={
        # struct __old_kernel_stat, whose stamps are whole seconds
        **dict.fromkeys(("oldstat", "oldlstat", "oldfstat"), StampLayout(1, (20, 24, 28), 4, 0)),
        **dict.fromkeys(("stat", "lstat", "fstat"), StampLayout(1, (32, 40, 48), 4, 4)),
        **dict.fromkeys(("stat64", "lstat64", "fstat64"), _STAT64),
        "fstatat64": _STAT64._replace(argument=2),
        "statx": STATX,
    },
    returns={
        **{"stat64": 0, "lstat64": 0, "fstat64": 0, "fstatat64": 1, "statx": 2},
        **{"stat": 3, "lstat": 3, "fstat": 3, "oldstat": 4, "oldlstat": 4, "oldfstat": 4},
        **{"open": 5, "openat": 6, "openat2": 6},
    },
)


def _jump(address: int) -> bytes:
    return struct.pack("<BIB2x", 0x68, address, 0xC3)  # push $address; ret


def _raw_function(number: int) -> bytes:
    """Push %ebx.

    Mov 8(%esp), %ebx; mov 12(%esp), %ecx; mov $number, %eax; int $0x80; pop %ebx; ret
    """
    head = b"\x53\x8b\x5c\x24\x08\x8b\x4c\x24\x0c\xb8"
    return struct.pack("<10sI4s6x", head, number, b"\xcd\x80\x5b\xc3")


def _time_program() -> bytes:
    code = bytes.fromhex(
        "31db b80d000000 cd80"  # xor %ebx, %ebx; mov $13, %eax (time); int $0x80
        "3dff000000 7605 b8ff000000"  # cmp $255, %eax; jbe 1f; mov $255, %eax
        "89c3 b801000000 cd80"  # 1: mov %eax, %ebx; mov $1, %eax (exit); int $0x80
    )
    base, headers = 0x08048000, 52 + 32
    size = headers + len(code)
    # elf(5): Elf32_Ehdr of an ET_EXEC for EM_386, Elf32_Phdr of a PT_LOAD to read and execute
    ident = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    ehdr = struct.pack("<16s2H5I6H", ident, 2, 3, 1, base + headers, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return ehdr + struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000) + code


I386 = Arch(
    name="i386",
    word="I",
    program_counter="rip",
    stack_pointer="rsp",
    syscall_number="rax",
    interrupted_syscall="orig_rax",
    syscall_result="rax",
    syscall_arguments=I386_CALLS.arguments,
    syscall_instruction=b"\xcd\x80",
    trap_instruction=b"\xcc",
    # mmap is mmap2, whose offset counts pages
    syscalls={**_SYSCALLS, "mmap": _SYSCALLS["mmap2"]},
    mmap_unit=4096,
    jump=_jump,
    raw_function=_raw_function,
    program_mode=("cs", 0xFFFF, _USER32_CS),
    vdso_entries=(
        *("__vdso_clock_gettime64", "__vdso_gettimeofday", "__vdso_clock_getres"),
        *("__vdso_getcpu", "", ""),
    ),
    kept_symbols=frozenset({"__kernel_vsyscall", "__kernel_sigreturn", "__kernel_rt_sigreturn"}),
    # __kernel_vsyscall, through which libc makes every call, and which the vDSO's own functions
    # call: it pushes ecx, edx and ebp (arch/x86/entry/vdso/vdso32/system_call.S).
    vsyscall_caller=12,
    zero_at_entry=("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp"),
    frame_words=(1, 2),
    frame_stack=(17, 15),
    frame_flags=(2, 2),  # X86_EFLAGS_FIXED, asm/processor-flags.h
    abis=(I386_CALLS,),
    time_program=_time_program(),
)
