"""x86-64: registers by syscall(2)."""

from __future__ import annotations

import struct

from pytest_vdsotime.abi import constant, syscalls
from pytest_vdsotime.arch.i386 import I386, I386_CALLS
from pytest_vdsotime.arch.model import STATX, Abi, Arch, stat_layout

#: The code segment of a 64-bit program (__USER_CS, arch/x86/include/asm/segment.h); 32-bit ones
#: have 0x23.
_USER_CS = 0x33

_SYSCALLS = syscalls("x86_64")


def _jump(address: int) -> bytes:
    return struct.pack("<6sQ2x", b"\xff\x25\0\0\0\0", address)  # jmp *0(%rip)


def _raw_function(number: int) -> bytes:
    return struct.pack("<BI3s8x", 0xB8, number, b"\x0f\x05\xc3")  # mov $number, %eax; syscall; ret


X86_64 = Arch(
    name="x86_64",
    word="Q",
    program_counter="rip",
    stack_pointer="rsp",
    syscall_number="rax",
    interrupted_syscall="orig_rax",
    syscall_result="rax",
    syscall_arguments=("rdi", "rsi", "rdx", "r10", "r8", "r9"),
    syscall_instruction=b"\x0f\x05",
    trap_instruction=b"\xcc",
    syscalls=_SYSCALLS,
    mmap_unit=1,
    jump=_jump,
    raw_function=_raw_function,
    program_mode=("cs", 0xFFFF, _USER_CS),
    vdso_entries=(
        *("__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_clock_getres"),
        *("__vdso_getcpu", "__vdso_getrandom", "__vdso_sgx_enter_enclave"),
    ),
    kept_symbols=frozenset(),
    vsyscall_caller=None,
    runs_too=(I386,),
    frame_words=(2, 1),
    frame_stack=(19, 17),
    frame_flags=(2, 2),  # X86_EFLAGS_FIXED, asm/processor-flags.h
    abis=(
        Abi(
            audit_arch=constant("AUDIT_ARCH_X86_64"),
            syscalls=_SYSCALLS,
            arguments=("rdi", "rsi", "rdx", "r10", "r8", "r9"),
            long_size=8,
            stamps={
                **dict.fromkeys(("stat", "lstat", "fstat"), stat_layout(1)),
                "newfstatat": stat_layout(2),
                "statx": STATX,
            },
            returns={
                **{"stat": 0, "lstat": 0, "fstat": 0, "newfstatat": 1, "statx": 2},
                **{"open": 3, "openat": 4, "openat2": 4},
            },
            refused_bit=constant("__X32_SYSCALL_BIT"),
        ),
        I386_CALLS,
    ),
    # ELF_PLAT_INIT, arch/x86/include/asm/elf.h
    zero_at_entry=(
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp"),
        *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    ),
    # push %rbx; mov %edi, %eax; mov %esi, %ebx; mov %edx, %ecx; int $0x80; pop %rbx; ret
    foreign_call=b"\x53\x89\xf8\x89\xf3\x89\xd1\xcd\x80\x5b\xc3",
    keeps_registers="fred",  # Intel's Flexible Return and Event Delivery, 5.4
    maps_history_apart=True,  # as native_stub/arch/x86_64.h says
    vsyscall_time=0xFFFFFFFFFF600400,  # arch/x86/include/uapi/asm/vsyscall.h
)
