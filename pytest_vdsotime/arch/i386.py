"""32-bit x86 programs on an x86-64 kernel, in the registers of a 64-bit tracer (python-ptrace's
structure): eip is in rip, ebx in rbx, and so on. System calls by int 0x80 (syscall(2)), numbers by
arch/x86/entry/syscalls/syscall_32.tbl."""

from __future__ import annotations

import struct

from pytest_vdsotime.arch.model import Abi, Arch

#: The code segment of a 32-bit program (__USER32_CS, arch/x86/include/asm/segment.h).
_USER32_CS = 0x23

#: Any program on x86 can make these calls, a 64-bit one too.
I386_CALLS = Abi(
    audit_arch=0x40000003,
    syscalls={
        "accept4": 364,
        "adjtimex": 124,
        "alarm": 27,
        "clock_adjtime": 343,
        "clock_adjtime64": 405,
        "clock_gettime": 265,
        "clock_gettime64": 403,
        "clock_nanosleep": 267,
        "clock_nanosleep_time64": 407,
        "clock_settime": 264,
        "clock_settime64": 404,
        "clone": 120,
        "clone3": 435,
        "connect": 362,
        "epoll_pwait": 319,
        "epoll_pwait2": 441,
        "epoll_wait": 256,
        "fcntl": 55,
        "flock": 143,
        "futex": 240,
        "futex_time64": 422,
        "futex_wait": 455,
        "futex_waitv": 449,
        "getitimer": 105,
        "getsockopt": 365,
        "gettimeofday": 78,
        "io_getevents": 247,
        "io_pgetevents": 385,
        "io_pgetevents_time64": 416,
        "io_uring_setup": 425,
        "ipc": 117,
        "mmap2": 192,
        "mq_timedreceive": 280,
        "mq_timedreceive_time64": 419,
        "mq_timedsend": 279,
        "mq_timedsend_time64": 418,
        "nanosleep": 162,
        "old_select": 82,
        "pause": 29,
        "poll": 168,
        "ppoll": 309,
        "ppoll_time64": 414,
        "prctl": 172,
        "pselect6": 308,
        "pselect6_time64": 413,
        "ptrace": 26,
        "read": 3,
        "readv": 145,
        "recvfrom": 371,
        "recvmmsg": 337,
        "recvmmsg_time64": 417,
        "recvmsg": 372,
        "restart_syscall": 0,
        "rt_sigsuspend": 179,
        "rt_sigpending": 176,
        "signalfd": 321,
        "signalfd4": 327,
        "rt_sigtimedwait": 177,
        "rt_sigtimedwait_time64": 421,
        "seccomp": 354,
        "select": 142,
        "semtimedop_time64": 420,
        "sendmmsg": 345,
        "sendmsg": 370,
        "sendto": 369,
        "setitimer": 104,
        "setns": 346,
        "setsockopt": 366,
        "settimeofday": 79,
        "socketcall": 102,
        "stime": 25,
        "sysinfo": 116,
        "time": 13,
        "timer_create": 259,
        "timer_delete": 263,
        "timer_getoverrun": 262,
        "timer_gettime": 261,
        "timer_gettime64": 408,
        "timer_settime": 260,
        "timer_settime64": 409,
        "timerfd_gettime": 326,
        "timerfd_gettime64": 410,
        "timerfd_settime": 325,
        "timerfd_settime64": 411,
        "times": 43,
        "unshare": 310,
        "userfaultfd": 374,
        "wait4": 114,
        "waitid": 284,
        "waitpid": 7,
        "write": 4,
        "writev": 146,
    },
    arguments=("rbx", "rcx", "rdx", "rsi", "rdi", "rbp"),
    long_size=4,
)


def _jump(address: int) -> bytes:
    return struct.pack("<BIB2x", 0x68, address, 0xC3)  # push $address; ret


def _raw_function(number: int) -> bytes:
    """push %ebx; mov 8(%esp), %ebx; mov 12(%esp), %ecx; mov $number, %eax; int $0x80; pop %ebx;
    ret"""
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
    syscalls={
        "close": 6,
        "mmap": 192,
        "mprotect": 125,
        "munmap": 91,
        "openat": 295,
        "mremap": 163,
        "restart_syscall": 0,
    },
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
