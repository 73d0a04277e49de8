"""x86-64: registers by syscall(2), numbers by arch/x86/entry/syscalls/syscall_64.tbl."""

from __future__ import annotations

from pytest_vdsotime.arch import Arch

#: The code segment of a 64-bit program (__USER_CS, arch/x86/include/asm/segment.h); 32-bit ones
#: have 0x23.
_USER_CS = 0x33

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
    syscalls={"close": 3, "mmap": 9, "mprotect": 10, "munmap": 11, "openat": 257},
    program_mode=("cs", _USER_CS),
    vdso_prefix="__vdso_",
    # ELF_PLAT_INIT, arch/x86/include/asm/elf.h
    zero_at_entry=(
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp"),
        *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    ),
)
