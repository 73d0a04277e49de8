/* 64-bit Arm: system calls, ordering, names, and how a tracer sees the registers. */
#include <stdint.h>

#define HAVE_GETTIMEOFDAY
#define HAVE_GETRANDOM
#define HAVE_STAMP_RETURNS

/* What a stat leaves: struct stat and struct statx (asm/stat.h, linux/stat.h), see vdso.c. */
#define STAMP_RECORDS {NR_fstat, {72, 88, 104, 104}, 8, 8}, {NR_statx, {64, 80, 96, 112}, 8, 4}

/* The names in its vDSO (arch/arm64/kernel/vdso/vdso.lds.S). */
#define __vdso_clock_gettime __kernel_clock_gettime
#define __vdso_gettimeofday __kernel_gettimeofday
#define __vdso_clock_getres __kernel_clock_getres
#define __vdso_getrandom __kernel_getrandom

/* include/uapi/asm-generic/unistd.h */
#define NR_getxattr 8
#define NR_epoll_pwait 22
#define NR_dup 23
#define NR_dup3 24
#define NR_fcntl 25
#define NR_ioctl 29
#define NR_unlinkat 35
#define NR_chdir 49
#define NR_fchmod 52
#define NR_openat 56
#define NR_close 57
#define NR_pread64 67
#define NR_pwrite64 68
#define NR_pselect6 72
#define NR_ppoll 73
#define NR_fstat 80
#define NR_exit_group 94
#define NR_waitid 95
#define NR_futex 98
#define NR_nanosleep 101
#define NR_clock_gettime 113
#define NR_clock_getres 114
#define NR_clock_nanosleep 115
#define NR_ptrace 117
#define NR_sched_yield 124
#define NR_kill 129
#define NR_restart_syscall 128
#define NR_rt_sigaction 134
#define NR_rt_sigprocmask 135
#define NR_rt_sigtimedwait 137
#define NR_setregid 143
#define NR_setreuid 145
#define NR_setpgid 154
#define NR_setsid 157
#define NR_setgroups 159
#define NR_uname 160
#define NR_prlimit64 261
#define NR_umask 166
#define NR_prctl 167
#define NR_gettimeofday 169
#define NR_getpid 172
#define NR_getppid 173
#define NR_mq_timedsend 182
#define NR_mq_timedreceive 183
#define NR_munmap 215
#define NR_clone 220
#define NR_execve 221
#define NR_mmap 222
#define MMAP_UNIT 1 /* of its offset: bytes */
#define NR_mprotect 226
#define NR_wait4 260
#define NR_process_vm_readv 270
#define NR_process_vm_writev 271
#define NR_kcmp 272
#define NR_seccomp 277
#define NR_readlinkat 78
#define NR_statx 291
#define NR_io_pgetevents 292
#define NR_pidfd_open 434
#define NR_clone3 435
#define NR_close_range 436
#define NR_pidfd_getfd 438
#define NR_epoll_pwait2 441
#define NR_futex_waitv 449
#define NR_futex_wait 455

/* Loads before it are done before those behind it (Arm ARM, B2.3). */
#define read_barrier() __asm__ volatile("dmb ishld" ::: "memory")
#define cpu_relax() __asm__ volatile("yield" ::: "memory")

static inline uint32_t load_acquire(const volatile uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

#ifdef __clang_analyzer__
long syscall6(long nr, long a, long b, long c, long d, long e, long f); /* it does not see that assembly writes to memory */
#else
/* syscall(2): number in x8; arguments x0 to x5; all are kept but x0. */
static inline long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
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
    register long x8 __asm__("x8") = NR_clone3;
    register long x0 __asm__("x0") = (long)how;
    register long x1 __asm__("x1") = size;
    __asm__ volatile("svc #0\n"
                     "    cbnz x0, 1f\n"
                     "    mov x29, xzr\n"
                     "    mov x0, %[argument]\n"
                     "    blr %[run]\n"
                     "    brk #0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), [run] "r"(run), [argument] "r"(argument)
                     : "memory");
    return x0;
}

/* struct user_pt_regs (asm/ptrace.h), and behind it the number of the system call, -1 in none: two sets of
 * registers to a tracer. pytest_vdsotime/arch/aarch64.py has the same layout. */
struct registers {
    uint64_t x[31], sp, pc, pstate, syscall;
};
#define MODE_MASK 0x10 /* PSR_MODE32_BIT: a 32-bit program */
#define MODE(registers) ((registers).pstate & MODE_MASK)
#define PROGRAM_COUNTER pc
#define STACK_POINTER sp
#define INTERRUPTED_SYSCALL syscall
#define SYSCALL_RESULT x[0]
#define SYSCALL_LENGTH 4
#define RESTART_SYSCALL(registers) NR_restart_syscall
#define AUDIT_ARCH 0xC00000B7 /* linux/audit.h */
#define REWINDS_EARLY /* as Arch.rewinds_early in pytest_vdsotime/arch */
#define PTRACE_GETREGSET 0x4204
#define PTRACE_SETREGSET 0x4205
#define NT_PRSTATUS 1 /* linux/elf.h */
#define NT_ARM_SYSTEM_CALL 0x404

struct register_set { void *address; uint64_t size; }; /* struct iovec */

/* Whether a call ends with EINTR when it is woken up for anything (signal(7)), and has no time limit: as in
 * pytest_vdsotime/tracer/calls/waits.py. */
static inline int is_endless(uint64_t nr, const uint64_t *arguments)
{
    switch (nr) {
    case 4: /* io_getevents */
        return !arguments[4];
    case 22: /* epoll_pwait */
        return (int32_t)arguments[3] < 0;
    case 137: /* rt_sigtimedwait */
        return !arguments[2];
    case 192: /* semtimedop */
    case 441: /* epoll_pwait2 */
        return !arguments[3];
    case 193: /* semop */
        return 1;
    case 426: /* io_uring_enter */
        return arguments[3] & 1;
    }
    return 0;
}

/* Of a 32-bit program there are fewer, and others. */
static inline long get_registers(long tid, struct registers *registers)
{
    int32_t number = -1;
    struct register_set all = {registers, sizeof *registers - sizeof registers->syscall};
    struct register_set call = {&number, sizeof number};
    long error = syscall4(NR_ptrace, PTRACE_GETREGSET, tid, NT_PRSTATUS, &all);
    if (error < 0)
        return error;
    if (all.size < sizeof *registers - sizeof registers->syscall)
        registers->pstate = MODE_MASK;
    else
        error = syscall4(NR_ptrace, PTRACE_GETREGSET, tid, NT_ARM_SYSTEM_CALL, &call);
    registers->syscall = number;
    return error;
}

static inline long set_registers(long tid, struct registers *registers)
{
    int32_t number = registers->syscall;
    struct register_set all = {registers, sizeof *registers - sizeof registers->syscall};
    struct register_set call = {&number, sizeof number};
    long error = syscall4(NR_ptrace, PTRACE_SETREGSET, tid, NT_PRSTATUS, &all);
    return error < 0 ? error : syscall4(NR_ptrace, PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &call);
}

/* Of the system call that it is in, by its place. */
static inline uint64_t *argument_of(struct registers *registers, int place)
{
    return &registers->x[place];
}

/* Likewise of a call of this kind (AUDIT_ARCH_...). */
static inline uint64_t argument_in(uint64_t arch, struct registers *registers, int place)
{
    (void)arch;
    return *argument_of(registers, place);
}

/* A system call leaves no register that may be changed, and only by one does a branch reach everywhere: for each place that
 * makes such a call there is code of its own, which the tracer writes into the program's image when it is first needed
 * (aarch64.S). So a program of which that place is too far from the image has none. */
#define RETURN_WORDS 5
#define RETURN_ENTRY 4
#define RETURN_SLOTS 32
#define RETURN_TRIES 4 /* places whose code would stand in the same slot */
#define WRITES_RETURNS

/* Instructions of the Arm ARM, C6.2; `way` in bytes. */
#define BRANCH(way) (0x14000000 | ((way) >> 2 & 0x3ffffff))         /* b */
#define BRANCH_WITH_LINK(way) (0x94000000 | ((way) >> 2 & 0x3ffffff)) /* bl */
#define BRANCH_REACH (1L << 27)
#define SAVE_LINK 0xa9bf7bfd    /* stp x29, x30, [sp, #-16]! */
#define RESTORE_LINK 0xa8c17bfd /* ldp x29, x30, [sp], #16 */

/* Of a table that begins with what to call: where the code for a call begins, which a task is in, or 0. */
static inline uint64_t make_return(long tid, uint64_t table, unsigned tries, uint32_t *code)
{
    struct registers registers;
    if (get_registers(tid, &registers) < 0 || registers.sp % 16) /* which a push would fault by (Arm ARM, D1.8.2) */
        return 0;
    uint64_t back = registers.pc, slot = table + 4 + (back / SYSCALL_LENGTH + tries) % RETURN_SLOTS * (4 * RETURN_WORDS);
    int64_t way = back - slot;
    if (way < -BRANCH_REACH / 2 || way > BRANCH_REACH / 2)
        return 0;
    code[0] = BRANCH(way - SYSCALL_LENGTH); /* where the kernel has it made again (do_signal, arch/arm64/kernel/signal.c) */
    code[1] = SAVE_LINK;
    code[2] = BRANCH_WITH_LINK(table - (slot + 8));
    code[3] = RESTORE_LINK;
    code[4] = BRANCH(way - 16);
    return slot;
}

/* At the entry of a system call: it returns to `to`. */
static inline long return_to(long tid, uint64_t kind, uint64_t to, int is_by_vsyscall)
{
    struct registers registers;
    (void)kind, (void)is_by_vsyscall;
    if (get_registers(tid, &registers) < 0)
        return -1;
    registers.pc = to;
    return set_registers(tid, &registers);
}

/* The first instructions of a static program: hand the initial stack to a function. */
#define START_WITH_STACK(function)                   \
    __asm__(".text\n.globl _start\n_start:\n"         \
            "    mov x29, xzr\n"                      \
            "    mov x30, xzr\n"                      \
            "    mov x0, sp\n"                        \
            "    b " #function "\n");
