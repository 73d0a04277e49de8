/* x86-64: system calls, ordering and what its vDSO has beyond the common functions. */
#include <stdint.h>

#define HAVE_GETTIMEOFDAY
#define HAVE_GETCPU
#define HAVE_TIME
#define HAVE_GETRANDOM
#define HAVE_WEAK_NAMES
#define HAVE_STAMP_RETURNS
#define HAVE_OPEN_RETURNS
#define MAPS_STAMPS_APART /* the kernel's vDSO has too little room before it, so near to the stack (map_vdso_randomized, arch/x86/entry/vdso/vma.c) */

/* What a stat leaves: struct stat and struct statx (asm/stat.h, linux/stat.h), see vdso.c. */
#define STAMP_RECORDS {NR_fstat, {72, 88, 104, 104}, 8, 8}, {NR_statx, {64, 80, 96, 112}, 8, 4}

/* arch/x86/entry/syscalls/syscall_64.tbl */
#define NR_close 3
#define NR_fstat 5
#define NR_poll 7
#define NR_mmap 9
#define MMAP_UNIT VDSO_PAGE_SIZE /* of its offset: bytes */
#define NR_mprotect 10
#define NR_munmap 11
#define NR_rt_sigaction 13
#define NR_rt_sigprocmask 14
#define NR_ioctl 16
#define NR_pread64 17
#define NR_pwrite64 18
#define NR_select 23
#define NR_sched_yield 24
#define NR_dup 32
#define NR_nanosleep 35
#define NR_getpid 39
#define NR_clone 56
#define NR_vfork 58
#define NR_execve 59
#define NR_wait4 61
#define NR_uname 63
#define NR_waitid 247
#define NR_kill 62
#define NR_fcntl 72
#define NR_chdir 80
#define NR_fchmod 91
#define NR_umask 95
#define NR_ptrace 101
#define NR_setpgid 109
#define NR_getppid 110
#define NR_setsid 112
#define NR_rt_sigtimedwait 128
#define NR_setreuid 113
#define NR_setregid 114
#define NR_setgroups 116
#define NR_prlimit64 302
#define NR_prctl 157
#define NR_gettimeofday 96
#define NR_getxattr 191
#define NR_futex 202
#define NR_restart_syscall 219
#define NR_clock_gettime 228
#define NR_clock_getres 229
#define NR_clock_nanosleep 230
#define NR_exit_group 231
#define NR_epoll_wait 232
#define NR_mq_timedsend 242
#define NR_mq_timedreceive 243
#define NR_openat 257
#define NR_newfstatat 262
#define NR_unlinkat 263
#define NR_pselect6 270
#define NR_ppoll 271
#define NR_epoll_pwait 281
#define NR_dup3 292
#define NR_getcpu 309
#define NR_process_vm_readv 310
#define NR_process_vm_writev 311
#define NR_kcmp 312
#define NR_seccomp 317
#define NR_readlinkat 267
#define NR_statx 332
#define NR_io_pgetevents 333
#define NR_pidfd_open 434
#define NR_clone3 435
#define NR_close_range 436
#define NR_pidfd_getfd 438
#define NR_epoll_pwait2 441
#define NR_futex_waitv 449
#define NR_futex_wait 455

/* Loads are not reordered with loads (Intel SDM vol. 3, 9.2): the compiler alone must be held. */
#define read_barrier() __asm__ volatile("" ::: "memory")
#define cpu_relax() __asm__ volatile("pause" ::: "memory")

static inline uint32_t load_acquire(const volatile uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

#ifdef __clang_analyzer__
long syscall6(long nr, long a, long b, long c, long d, long e, long f); /* it does not see that assembly writes to memory */
#else
/* syscall(2): number in rax; arguments rdi rsi rdx r10 r8 r9; rcx and r11 are clobbered. */
static inline long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#endif

#define syscall0(nr) syscall6(nr, 0, 0, 0, 0, 0, 0)
#define syscall1(nr, a) syscall6(nr, (long)(a), 0, 0, 0, 0, 0)
#define syscall2(nr, a, b) syscall6(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define syscall3(nr, a, b, c) syscall6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define syscall4(nr, a, b, c, d) syscall6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define syscall5(nr, a, b, c, d, e) syscall6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

/* clone3(2): the child runs a function, which must not return, on the stack that `how` names. */
static inline long clone_to(const void *how, long size, void (*run)(void *), void *argument)
{
    long result;
    __asm__ volatile("syscall\n"
                     "    testq %%rax, %%rax\n"
                     "    jnz 1f\n"
                     "    xorl %%ebp, %%ebp\n"
                     "    movq %[argument], %%rdi\n"
                     "    callq *%[run]\n"
                     "    hlt\n"
                     "1:"
                     : "=a"(result)
                     : "0"(NR_clone3), "D"(how), "S"(size), [run] "r"(run), [argument] "r"(argument)
                     : "rcx", "r11", "memory");
    return result;
}

/* struct user_regs_struct (sys/user.h), and how a tracer gets and sets it (ptrace(2)); `cs` tells 64-bit
 * programs from 32-bit ones. */
struct registers {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax;
    uint64_t rip, cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;
};
#define MODE(registers) ((registers).cs)
#define PROGRAM_COUNTER rip
#define STACK_POINTER rsp
#define INTERRUPTED_SYSCALL orig_rax
#define SYSCALL_RESULT rax
#define SYSCALL_LENGTH 2 /* of the instruction; of int $0x80 and of what sysenter returns to as well */
#define RESTART_SYSCALL(registers) ((registers).cs == 0x33 ? NR_restart_syscall : 0) /* __USER_CS, asm/segment.h; else i386's */
#define AUDIT_ARCH 0xC000003E /* linux/audit.h */
#define PTRACE_GETREGS 12
#define PTRACE_SETREGS 13
#define get_registers(tid, registers) syscall4(NR_ptrace, PTRACE_GETREGS, tid, 0, registers)
#define set_registers(tid, registers) syscall4(NR_ptrace, PTRACE_SETREGS, tid, 0, registers)

/* Of the system call that it is in, by its place. */
static inline uint64_t *argument_of(struct registers *registers, int place)
{
    uint64_t *all[] = {&registers->rdi, &registers->rsi, &registers->rdx, &registers->r10, &registers->r8, &registers->r9};
    return all[place];
}

/* Likewise of a call of this kind (AUDIT_ARCH_...): by int 0x80 in ebx, ecx, edx, esi, edi, ebp. */
static inline uint64_t argument_in(uint64_t arch, struct registers *registers, int place)
{
    uint64_t *all[] = {&registers->rbx, &registers->rcx, &registers->rdx, &registers->rsi, &registers->rdi, &registers->rbp};
    return arch == AUDIT_ARCH ? *argument_of(registers, place) : (uint32_t)*all[place];
}

#define PTRACE_POKEUSER 6
#define set_register(tid, name, value) syscall4(NR_ptrace, PTRACE_POKEUSER, tid, __builtin_offsetof(struct registers, name), value)

/* What a call returns to is in the image as it is. */
#define RETURN_WORDS 4
#define RETURN_ENTRY 0
#define VSYSCALL_RETURN 9
#define make_return(tid, place, tries, code) (place)
#define RETURN_TRIES 1

/* At the entry of a system call of its own kind (0) or of i386 (1): it returns to `to`, which finds where it was to in rcx, or
 * on the stack; or of i386 to what stands before, which knows it for calls by __kernel_vsyscall. */
static inline long return_to(long tid, uint64_t kind, uint64_t to, int is_by_vsyscall)
{
    struct registers registers;
    if (kind == 0 || is_by_vsyscall)
        return set_register(tid, rip, kind == 0 ? to : to - VSYSCALL_RETURN);
    if (get_registers(tid, &registers) < 0 || MODE(registers) != 0x23) /* __USER32_CS, asm/segment.h: else it is in 64-bit code */
        return -1;
    uint32_t back = registers.rip, stack = registers.rsp - sizeof back;
    struct { void *address; uint64_t size; } here = {&back, sizeof back}, there = {(void *)(uint64_t)stack, sizeof back};
    if (syscall6(NR_process_vm_writev, tid, (long)&here, 1, (long)&there, 1, 0) != sizeof back || set_register(tid, rsp, stack) < 0)
        return -1;
    return set_register(tid, rip, to);
}

/* The first instructions of a static program: hand the initial stack to a function. */
#define START_WITH_STACK(function)                   \
    __asm__(".text\n.globl _start\n_start:\n"         \
            "    xorl %ebp, %ebp\n"                   \
            "    movq %rsp, %rdi\n"                   \
            "    andq $-16, %rsp\n"                   \
            "    call " #function "\n");
