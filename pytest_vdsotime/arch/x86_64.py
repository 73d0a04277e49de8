"""x86-64: registers by syscall(2), numbers by arch/x86/entry/syscalls/syscall_64.tbl."""

from __future__ import annotations

import struct

from pytest_vdsotime.arch.i386 import I386, I386_CALLS
from pytest_vdsotime.arch.model import Abi, Arch

#: The code segment of a 64-bit program (__USER_CS, arch/x86/include/asm/segment.h); 32-bit ones
#: have 0x23.
_USER_CS = 0x33

_X32_BIT = 0x40000000  # __X32_SYSCALL_BIT, arch/x86/include/uapi/asm/unistd.h


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
    syscalls={
        "close": 3,
        "mmap": 9,
        "mprotect": 10,
        "munmap": 11,
        "openat": 257,
        "mremap": 25,
        "restart_syscall": 219,
        "kcmp": 312,
        "pidfd_getfd": 438,
        "rt_sigqueueinfo": 129,
        "rt_tgsigqueueinfo": 297,
    },
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
            audit_arch=0xC000003E,
            syscalls={
                "accept": 43,
                "accept4": 288,
                "adjtimex": 159,
                "alarm": 37,
                "clock_adjtime": 305,
                "clock_gettime": 228,
                "clock_nanosleep": 230,
                "clock_settime": 227,
                "clone": 56,
                "clone3": 435,
                "connect": 42,
                "epoll_pwait": 281,
                "epoll_pwait2": 441,
                "epoll_wait": 232,
                "fcntl": 72,
                "flock": 73,
                "futex": 202,
                "futex_wait": 455,
                "futex_waitv": 449,
                "getitimer": 36,
                "getsockopt": 55,
                "gettimeofday": 96,
                "io_getevents": 208,
                "io_pgetevents": 333,
                "io_uring_setup": 425,
                "mq_timedreceive": 243,
                "mq_timedsend": 242,
                "nanosleep": 35,
                "pause": 34,
                "poll": 7,
                "ppoll": 271,
                "prctl": 157,
                "pselect6": 270,
                "ptrace": 101,
                "read": 0,
                "readv": 19,
                "recvfrom": 45,
                "recvmmsg": 299,
                "recvmsg": 47,
                "restart_syscall": 219,
                "rt_sigsuspend": 130,
                "rt_sigpending": 127,
                "signalfd": 282,
                "signalfd4": 289,
                "rt_sigtimedwait": 128,
                "seccomp": 317,
                "select": 23,
                "semtimedop": 220,
                "sendmmsg": 307,
                "sendmsg": 46,
                "sendto": 44,
                "setitimer": 38,
                "setns": 308,
                "setsockopt": 54,
                "settimeofday": 164,
                "sysinfo": 99,
                "time": 201,
                "timer_create": 222,
                "timer_delete": 226,
                "timer_getoverrun": 225,
                "timer_gettime": 224,
                "timer_settime": 223,
                "timerfd_gettime": 287,
                "timerfd_settime": 286,
                "times": 100,
                "unshare": 272,
                "userfaultfd": 323,
                "wait4": 61,
                "waitid": 247,
                "write": 1,
                "writev": 20,
            },
            arguments=("rdi", "rsi", "rdx", "r10", "r8", "r9"),
            long_size=8,
            refused_bit=_X32_BIT,
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
    vsyscall_time=0xFFFFFFFFFF600400,  # arch/x86/include/uapi/asm/vsyscall.h
)
