"""x86-64: registers by syscall(2), numbers by arch/x86/entry/syscalls/syscall_64.tbl."""

from __future__ import annotations

from pytest_vdsotime.arch import Abi, Arch

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
    abis=(
        Abi(
            audit_arch=0xC000003E,
            syscalls={
                "adjtimex": 159,
                "clock_adjtime": 305,
                "clock_gettime": 228,
                "clock_settime": 227,
                "clock_nanosleep": 230,
                "futex": 202,
                "futex_waitv": 449,
                "gettimeofday": 96,
                "mq_timedreceive": 243,
                "mq_timedsend": 242,
                "settimeofday": 164,
                "sysinfo": 99,
                "time": 201,
                "timer_settime": 223,
                "timerfd_settime": 286,
                "times": 100,
            },
            arguments=("rdi", "rsi", "rdx", "r10", "r8", "r9"),
            long_size=8,
        ),
        # arch/x86/entry/syscalls/syscall_32.tbl; any program can make these, with int 0x80
        Abi(
            audit_arch=0x40000003,
            syscalls={
                "adjtimex": 124,
                "clock_adjtime": 343,
                "clock_adjtime64": 405,
                "clock_gettime": 265,
                "clock_gettime64": 403,
                "clock_settime": 264,
                "clock_settime64": 404,
                "clock_nanosleep": 267,
                "clock_nanosleep_time64": 407,
                "futex": 240,
                "futex_time64": 422,
                "futex_waitv": 449,
                "gettimeofday": 78,
                "mq_timedreceive": 280,
                "mq_timedreceive_time64": 419,
                "mq_timedsend": 279,
                "mq_timedsend_time64": 418,
                "settimeofday": 79,
                "stime": 25,
                "sysinfo": 116,
                "time": 13,
                "timer_settime": 260,
                "timer_settime64": 409,
                "timerfd_settime": 325,
                "timerfd_settime64": 411,
                "times": 43,
            },
            arguments=("rbx", "rcx", "rdx", "rsi", "rdi", "rbp"),
            long_size=4,
        ),
    ),
    zero_at_entry=(
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp"),
        *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    ),
    # push %rbx; mov %edi, %eax; mov %esi, %ebx; mov %edx, %ecx; int $0x80; pop %rbx; ret
    foreign_call=b"\x53\x89\xf8\x89\xf3\x89\xd1\xcd\x80\x5b\xc3",
    vsyscall_time=0xFFFFFFFFFF600400,  # arch/x86/include/uapi/asm/vsyscall.h
)
