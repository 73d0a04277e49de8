/* The tracer's wait: it returns with a stop that needs thought, and lets go on by itself what needs none, without
 * Python and so without its interpreter lock: signals on their way, births, execs, ends, raw reads of a clock.
 *
 * Part of a shared object in the tracer's process, called on its thread.
 */
#include "fastpath.h"

#include "program/loader.h"
#include "program/loader_failed.h"
#include "spawn.h"
#include "takeover.h"
#include "tracer.h"

/* linux/wait.h, linux/ptrace.h, asm-generic/signal.h */
#define P_ALL 0
#define P_PID 1
#define WNOHANG 1
#define WSTOPPED 2
#define WEXITED 4
#define WNOWAIT 0x1000000
#define CLD_EXITED 1 /* asm-generic/siginfo.h */
#define CLD_DUMPED 3
#define WNOTHREAD 0x20000000
#define WALL 0x40000000
#define SIGTRAP 5
#define SIGSEGV 11
#define FAULTS (1UL << 4 | 1UL << SIGTRAP | 1UL << 7 | 1UL << 8 | 1UL << 31) /* and SIGILL, SIGBUS, SIGFPE, SIGSYS */
#define SIGSTOP 19 /* and SIGTSTP, SIGTTIN, */
#define SIGTTOU 22
#define ENOENT 2
#define EINTR 4
#define EFAULT 14
#define SI_TIMER -2 /* asm-generic/siginfo.h */
/* include/linux/errno.h */
#define ERESTARTSYS 512
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516
#define SYSCALL_TRAP (SIGTRAP | 0x80)
#define EVENT_FORK 1
#define EVENT_VFORK 2
#define EVENT_CLONE 3
#define EVENT_EXEC 4
#define EVENT_SECCOMP 7
#define EVENT_STOP 128
#define PR_SET_TIMERSLACK 29 /* linux/prctl.h */
#define CLOCK_REALTIME 0
#define CLOCK_MONOTONIC 1
#define LATER_S 10 /* a call may end so much later */
#define NSEC_PER_SEC 1000000000LL
#define BRIEF_NS 30000 /* to sleep takes longer */
#define NAP_NS 20000    /* at least, and later by this share of the time that was waited: */
#define LATE_SHARE 16
#define SPINS_A_LOOK 4 /* at the clock */
#define PTRACE_CONT 7
#define PTRACE_SYSCALL 24
#define PTRACE_GETEVENTMSG 0x4201
#define PTRACE_GETSIGINFO 0x4202
#define PTRACE_SEIZE 0x4206
#define PTRACE_INTERRUPT 0x4207
#define PTRACE_GET_SYSCALL_INFO 0x420e
#define SYSCALL_INFO_ENTRY 1
#define SYSCALL_INFO_EXIT 2
#define MOST_ALONE 16
#define SPINS 100 /* some 50 microseconds */
#define BIRTH_NS 20000 /* how much later a parent may be than its child */
#define CHILD_NS 300000 /* how long its parent may still be busy with subprocess's own code */
/* linux/stat.h */
#define STATX_MODE 2
#define S_ISUID 04000
#define S_ISGID 02000
/* linux/sched.h */
#define CLONE_UNTRACED 0x800000
#define CLONE_NEWTIME 0x80

typedef long clock_fn(int, struct timespec *);

static int is_among(const uint64_t *list, uint64_t count, uint64_t tid)
{
    for (uint64_t i = 0; i < count; i++)
        if (list[i] == tid)
            return 1;
    return 0;
}

static uint64_t read_ns(int clock)
{
    struct timespec now;
    syscall2(NR_clock_gettime, clock, &now);
    return now.sec * 1000000000ULL + now.nsec;
}

static uint64_t now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

static uint8_t *mark_of(const struct fastpath *fastpath, uint64_t tid)
{
    return (uint8_t *)fastpath->marks + tid % MARKED_TASKS;
}

/* A task that was killed meanwhile tells so by its next report. Of any other that did not go on Python has to hear. */
static void resume(struct fastpath *fastpath, long request, uint64_t tid, uint64_t signal)
{
    long error = syscall4(NR_ptrace, request, tid, 0, signal);
    if (error < 0 && fastpath->failure_count < FASTPATH_LIST)
        fastpath->failures[fastpath->failure_count++] = (struct fastpath_failure){tid, -error};
}

static void go_on(struct fastpath *fastpath, uint64_t tid, uint64_t signal)
{
    resume(fastpath, PTRACE_CONT, tid, signal);
}

void go_to_exit(struct fastpath *fastpath, uint64_t tid)
{
    resume(fastpath, PTRACE_SYSCALL, tid, 0);
}

/* To the exit of the system call that it is in, and there, where that alone shows how the call has ended. */
static void go_through(struct fastpath *fastpath, uint64_t tid)
{
#ifdef REWINDS_EARLY
    go_to_exit(fastpath, tid);
#else
    go_on(fastpath, tid, 0);
#endif
}

/* When a system call is to be made again, another signal may come before the program gets to that (from
 * arch_do_signal_or_restart, arch/x86/kernel/signal.c, to the first instruction), and its handler would not end the call. Alone
 * it would have: there a signal that is ignored does not interrupt the call at all. So whether the program stands before the
 * call, with all else as it was in it; as it also will when it makes such a call another time. */
static int is_before_call(const struct interrupted_call *call, uint64_t tid, const struct registers *registers)
{
    const struct registers *was = (const struct registers *)call->registers;
    struct registers here = *registers;
    if (call->tid != tid || registers->PROGRAM_COUNTER != was->PROGRAM_COUNTER - SYSCALL_LENGTH)
        return 0;
    int is_behind_kernel = (int64_t)registers->INTERRUPTED_SYSCALL < 0; /* where it says what it was about to do */
    int is_same = registers->SYSCALL_RESULT == was->INTERRUPTED_SYSCALL || registers->SYSCALL_RESULT == RESTART_SYSCALL(*was);
    if (is_behind_kernel ? !is_same || now_ns() > call->at_ns + AGAIN_NS : registers->INTERRUPTED_SYSCALL != was->INTERRUPTED_SYSCALL)
        return 0;
    here.PROGRAM_COUNTER = was->PROGRAM_COUNTER;
    here.SYSCALL_RESULT = was->SYSCALL_RESULT;
    here.INTERRUPTED_SYSCALL = was->INTERRUPTED_SYSCALL;
    for (uint64_t i = 0; i < sizeof here / 8; i++)
        if (((uint64_t *)&here)[i] != call->registers[i])
            return 0;
    return 1;
}

static void forget_interrupted(struct fastpath *fastpath, uint64_t tid)
{
    struct interrupted_call *call = &fastpath->interrupted[tid % INTERRUPTED_CALLS];
    if (call->tid == tid)
        call->tid = 0;
}

/* Of a task that is about to get a signal: in the system call that this or one before has interrupted. Where calls are
 * rewound early the registers name none. */
static int reads_interrupted(struct fastpath *fastpath, uint64_t tid, struct registers *registers)
{
    struct interrupted_call *call = &fastpath->interrupted[tid % INTERRUPTED_CALLS];
    if (get_registers(tid, registers) < 0)
        return 0;
    if (is_before_call(call, tid, registers)) {
        *registers = *(struct registers *)call->registers;
        call->at_ns = now_ns();
        return set_registers(tid, registers) >= 0;
    }
    forget_interrupted(fastpath, tid);
    int64_t error = -(int64_t)registers->SYSCALL_RESULT;
    if ((int64_t)registers->INTERRUPTED_SYSCALL >= 0
        && (error == EINTR || (error >= ERESTARTSYS && error <= ERESTART_RESTARTBLOCK))) {
        call->tid = tid;
        call->at_ns = now_ns();
        *(struct registers *)call->registers = *registers;
    }
    return 1;
}

/* Some calls end with EINTR when they are woken up for anything, such as a signal that is ignored and that only a tracer
 * hears of (signal(7)): now it takes one with a handler for that, as it would alone. close(2) has given up the
 * descriptor by then. */
static int hides_interrupt(struct fastpath *fastpath, uint64_t tid)
{
    struct registers registers;
    if (!reads_interrupted(fastpath, tid, &registers))
        return 0;
    if ((int64_t)registers.INTERRUPTED_SYSCALL < 0)
        return 1;
    const struct wait_record *wait = find_record(&fastpath->waits, tid);
    int is_timed = wait && wait->nr == registers.INTERRUPTED_SYSCALL;
    if (is_timed && wait->has_rest && (int64_t)registers.SYSCALL_RESULT == -ERESTART_RESTARTBLOCK)
        return 0; /* what was left has been told, which is for those alone who have a handler */
    if ((int64_t)registers.SYSCALL_RESULT == -EFAULT)
        return 0; /* or what was left could not be told */
    if (is_timed && registers.INTERRUPTED_SYSCALL == NR_io_pgetevents
        && (int64_t)registers.SYSCALL_RESULT == -ERESTARTNOHAND)
        return 0; /* called again, it would begin anew */
    if ((int64_t)registers.SYSCALL_RESULT == -EINTR && registers.INTERRUPTED_SYSCALL != NR_close) {
        if (is_timed)
            return 0;
        registers.SYSCALL_RESULT = -ERESTARTNOHAND;
        return set_registers(tid, &registers) >= 0;
    }
    return 1;
}

/* A raw clock_gettime of a clock that the page has. */
static int answers(struct fastpath *fastpath, uint64_t tid, const struct syscall_info *info)
{
    struct registers registers;
    struct timespec ts;

    uint32_t id = info->args[0];
    if (!fastpath->read_clock || fastpath->reader_count == FASTPATH_LIST)
        return 0;
    if (info->arch != AUDIT_ARCH || info->nr != NR_clock_gettime || id > 31 || !(fastpath->served >> id & 1))
        return 0;
    ((clock_fn *)fastpath->read_clock)(id, &ts);
    struct span here = {&ts, sizeof ts}, there = {(void *)info->args[1], sizeof ts};
    if (syscall6(NR_process_vm_writev, tid, (long)&here, 1, (long)&there, 1, 0) != sizeof ts)
        return 0; /* the tracer knows what to do */
    if (get_registers(tid, &registers) < 0)
        return 0;
    registers.INTERRUPTED_SYSCALL = -1;
    registers.SYSCALL_RESULT = 0;
    if (set_registers(tid, &registers) < 0)
        return 0;
    if (!is_among(fastpath->readers, fastpath->reader_count, tid))
        fastpath->readers[fastpath->reader_count++] = tid;
    go_on(fastpath, tid, 0);
    return 1;
}

/* A system call that is stopped at its entry has this result, without the kernel; its task goes on. */
__attribute__((visibility("default")))
long end_call(uint64_t tid, long result)
{
    struct registers registers;
    long error = get_registers(tid, &registers);
    if (error < 0)
        return error;
    registers.INTERRUPTED_SYSCALL = -1;
    registers.SYSCALL_RESULT = result;
    error = set_registers(tid, &registers);
    return error < 0 ? error : syscall4(NR_ptrace, PTRACE_CONT, tid, 0, 0);
}

/* A call that is but to be followed to its exit. */
static int begins_endless(const struct fastpath *fastpath, const struct syscall_info *info)
{
#ifdef REWINDS_EARLY
    return fastpath->waits.begins && info->arch == AUDIT_ARCH && is_endless(info->nr, info->args);
#else
    (void)fastpath; /* of those without a timeout one alone stops at its entry */
    return info->arch == AUDIT_ARCH && info->nr == NR_rt_sigtimedwait && !info->args[2];
#endif
}

/* A new thread or process that is not to leave its tracer nor its time namespace: its flags, which stand in memory,
 * say so (tracer/calls/process.py). */
static int is_plain_clone3(uint64_t tid, const struct syscall_info *info)
{
    uint64_t flags = 0;
    struct span here = {&flags, sizeof flags}, there = {(void *)info->args[0], sizeof flags};
    if (info->arch != AUDIT_ARCH || info->nr != NR_clone3)
        return 0;
    if (syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0) != sizeof flags)
        return 0;
    return !(flags & (CLONE_UNTRACED | CLONE_NEWTIME));
}

/* A call of a program that is in real time, which is the kernel's unless it is about the tracer itself. */
static int lets_skipped_call(struct fastpath *fastpath, uint64_t tid)
{
    struct syscall_info info;
    if (syscall4(NR_ptrace, PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0)
        return 0;
    int is_own = info.arch == AUDIT_ARCH && info.nr < CALL_NUMBERS
        && (!(fastpath->of_marked[info.nr] & MARK_SKIPPED) || (info.nr == NR_rt_sigtimedwait && !takes_unblocked(tid, &info)));
    if (!is_own && !is_plain_clone3(tid, &info))
        return 0;
#ifdef REWINDS_EARLY
    if (is_own && (fastpath->waits.kinds[info.nr] || is_endless(info.nr, info.args))) {
        go_through(fastpath, tid); /* any wake-up may end it */
        return 1;
    }
#endif
    go_on(fastpath, tid, 0);
    return 1;
}

static uint64_t *mapped_of(const struct fastpath *fastpath, uint64_t tid)
{
    return (uint64_t *)fastpath->mapped + tid % MARKED_TASKS;
}

#ifdef HAVE_STAMP_RETURNS
#define TAKEN (-1)
#ifdef WRITES_RETURNS
#define O_WRONLY 1 /* asm-generic/fcntl.h */

/* Where nothing has been written to yet, or TAKEN. */
static int writes_return(uint64_t tid, uint64_t start, const uint32_t *found, const uint32_t *code)
{
    char path[PROCESS_PATH];
    for (int i = 0; i < RETURN_WORDS; i++)
        if (found[i])
            return TAKEN; /* it is that of another place */
    process_path(path, tid, "/mem");
    long memory = syscall4(NR_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (memory < 0)
        return 0;
    long written = syscall4(NR_pwrite64, memory, code, RETURN_WORDS * sizeof *code, start);
    syscall1(NR_close, memory);
    return written == RETURN_WORDS * sizeof *code;
}
#else
#define writes_return(tid, start, found, code) 0
#endif

/* Whether a program, which may have moved, covered or unmapped it, still has what it was given: the code, and the very pages. */
static int has_return(const struct fastpath *fastpath, uint64_t tid, uint64_t mapped, uint64_t start, const uint32_t *code,
                      uint64_t *syscall_return)
{
    const uint64_t *page = (const uint64_t *)fastpath->page, *mark = fastpath->page_mark;
    struct { uint64_t syscall_return, mark[2], page; uint32_t code[RETURN_WORDS]; } found;
    uint64_t own = mapped + VDSO_PAGE_SIZE + offsetof(struct vdso_process, syscall_return), own_size = offsetof(__typeof__(found), page);
    uint64_t size = own_size + sizeof found.page + sizeof found.code;
    struct span here = {&found, size};
    struct span there[] = {{(void *)own, own_size}, {(void *)mapped, sizeof found.page}, {(void *)start, sizeof found.code}};
    if (syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)there, 3, 0) != (long)size || found.mark[0] != mark[0]
        || found.mark[1] != mark[1] || found.page != *page)
        return 0;
    *syscall_return = found.syscall_return;
    for (int i = 0; i < RETURN_WORDS; i++)
        if (found.code[i] != code[i])
            return writes_return(tid, start, found.code, code);
    return 1;
}

/* Has a call return to where the program itself finds what its clock has for the stamps, or whether a file that it has opened
 * is one of /proc: what the filter says of the call is where (RETURNS of tracer/calls/files.py). A filter of the program's own
 * may forbid what is called there. */
static int tells_itself(struct fastpath *fastpath, uint64_t tid)
{
    uint64_t mapped = *mapped_of(fastpath, tid), syscall_return;
    struct syscall_info info;
    struct stamps *stamps = (struct stamps *)fastpath->stamps;
    struct timespec now;
    if (*mark_of(fastpath, tid) & (MARK_REWINDS | MARK_EXECS) || !mapped || !stamps || !fastpath->host_clock
        || syscall4(NR_ptrace, PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0)
        return 0;
    uint64_t place = info.rest - 1; /* what the filter says (struct ptrace_syscall_info, linux/ptrace.h) */
    if (place >= FASTPATH_KINDS * CALL_RETURNS)
        return 0;
    const struct call_return *to = &fastpath->returns[place];
    uint32_t code[RETURN_WORDS];
    for (unsigned i = 0; i < sizeof to->code / sizeof *to->code; i++)
        code[i] = to->code[i];
    uint64_t start = to->place;
    int found = TAKEN;
    for (unsigned tries = 0; start && found == TAKEN && tries < RETURN_TRIES; tries++) {
        start = make_return(tid, mapped + to->place, tries, code);
        found = start ? has_return(fastpath, tid, mapped, start, code, &syscall_return) : 0;
    }
    if (found <= 0)
        return 0;
    int is_by_vsyscall = syscall_return && info.instruction_pointer == syscall_return;
    if (return_to(tid, place / CALL_RETURNS, start + RETURN_ENTRY, is_by_vsyscall) < 0)
        return 0;
    ((clock_fn *)fastpath->host_clock)(CLOCK_REALTIME, &now);
    stamps->limit_ns = (now.sec + LATER_S) * NSEC_PER_SEC;
    go_on(fastpath, tid, 0);
    return 1;
}

/* What the program could not see to itself (vdso.c). */
static int tells_left(const struct fastpath *fastpath, uint64_t tid, const struct syscall_info *info)
{
    if ((int32_t)info->args[0] == OPENED_FILE)
        return !opens_time(tid, info->args[1]) && end_call(tid, 0) >= 0;
    unsigned row = stamp_row(&fastpath->stamp_table, info->arch, info->args[2]);
    return row && row < STAMP_LAYOUTS
        && tells_stamps((const struct stamps *)fastpath->stamps, tid, &fastpath->stamp_table.layouts[row], info->args[1])
        && end_call(tid, 0) >= 0;
}
#else
#define tells_itself(fastpath, tid) 0
#define tells_left(fastpath, tid, info) 0
#endif

#define OTHER_CALL (-1)

/* Of a file call (stamps.h) the exit is what counts. */
static int sees_file_call(struct fastpath *fastpath, uint64_t tid, const struct syscall_info *info)
{
    unsigned row = stamp_row(&fastpath->stamp_table, info->arch, info->nr);
    int32_t what = info->args[0];
    if (row == ASKS_FOR_MORE && (what == STAMPS_LEFT || what == OPENED_FILE))
        return fastpath->stamps && tells_left(fastpath, tid, info);
    if (!row || row == SETS_STAMPS || (row < OPENS_FILE && !fastpath->stamps))
        return 0;
    if (row != OPENS_FILE && *mark_of(fastpath, tid) & MARK_REWINDS)
        return 0;
    if (row == REWINDS_FILE || row == ASKS_FOR_MORE)
        go_on(fastpath, tid, 0);
    else
        go_to_exit(fastpath, tid);
    return 1;
}

/* At the exit of one: whether it is done with, as what is not done here is the tracer's. OTHER_CALL where it is that of another
 * call. */
static int ends_file_call(struct fastpath *fastpath, uint64_t tid)
{
    struct syscall_info info;
    struct registers registers;
    if (!fastpath->stamps || fastpath->hands_over_all || syscall4(NR_ptrace, PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0
        || info.op != SYSCALL_INFO_EXIT || get_registers(tid, &registers) < 0)
        return OTHER_CALL;
    unsigned row = stamp_row(&fastpath->stamp_table, info.arch, registers.INTERRUPTED_SYSCALL);
    if (!row || row > OPENS_FILE)
        return OTHER_CALL;
    int32_t result = registers.SYSCALL_RESULT;
    if (row == OPENS_FILE) {
        if (result >= 0 && opens_time(tid, result))
            return 0;
    } else if (!result) {
        const struct stamp_layout *layout = &fastpath->stamp_table.layouts[row];
        uint64_t address = argument_in(info.arch, &registers, layout->argument);
        if (!tells_stamps((const struct stamps *)fastpath->stamps, tid, layout, address))
            return 0;
    }
    go_on(fastpath, tid, 0);
    return 1;
}

static int sees_call(struct fastpath *fastpath, uint64_t tid)
{
    struct syscall_info info;
    if (syscall4(NR_ptrace, PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0)
        return 0;
    if (is_plain_clone3(tid, &info)) {
        go_on(fastpath, tid, 0);
        return 1;
    }
    if (info.nr < CALL_NUMBERS && fastpath->of_marked[info.nr] & *mark_of(fastpath, tid))
        return 0;
    if (takes_unblocked(tid, &info))
        return 0;
    if (fastpath->sees_files && sees_file_call(fastpath, tid, &info))
        return 1;
    if (fastpath->engine && keeps_wait(fastpath, tid, &info))
        return 1;
    if (begins_endless(fastpath, &info) || begins_wait(&fastpath->waits, tid, &info)) {
        go_through(fastpath, tid);
        return 1;
    }
    return answers(fastpath, tid, &info);
}

static int is_of_interest(const struct fastpath *fastpath, const struct syscall_info *info)
{
    if (info->arch != AUDIT_ARCH || info->nr >= CALL_NUMBERS)
        return 1;
    if (fastpath->sees_files && stamp_row(&fastpath->stamp_table, info->arch, info->nr))
        return 1;
    unsigned interest = fastpath->interests[info->nr];
    return interest >= INTEREST_BY_POINTER ? info->args[interest - INTEREST_BY_POINTER] != 0 : interest;
}

/* At the exit of a system call: whether it has been interrupted and the tracer is to know, as a recorded wait, or where
 * any wake-up ends it; else what to do with it is known here. */
static int is_interrupted(const struct fastpath *fastpath, uint64_t tid)
{
#ifdef REWINDS_EARLY
    struct registers registers;
    if (get_registers(tid, &registers) < 0)
        return 0;
    int64_t error = -(int64_t)registers.SYSCALL_RESULT;
    return error == EINTR
        || ((error == EFAULT || (error >= ERESTARTSYS && error <= ERESTART_RESTARTBLOCK))
            && find_record(&fastpath->waits, tid));
#else
    (void)fastpath, (void)tid;
    return 0;
#endif
}

/* At the exit of a call of a task that has a filter: one that was followed to there. */
static int lets_wait_end(struct fastpath *fastpath, uint64_t tid)
{
#ifdef REWINDS_EARLY
    if (*mark_of(fastpath, tid) & MARK_SKIPPED && !is_interrupted(fastpath, tid)) {
        go_on(fastpath, tid, 0);
        return 1;
    }
#endif
    struct wait_record *wait = find_record(&fastpath->waits, tid);
    if (wait && wait->keeper == KEPT_ENDLESS) {
        if (fastpath->hands_over_all || !lets_kept_end(&fastpath->waits, tid, wait))
            return 0;
        drop_record(&fastpath->waits, tid);
        go_on(fastpath, tid, 0);
        return 1;
    }
#ifdef REWINDS_EARLY
    struct syscall_info info;
    if (fastpath->hands_over_all || is_interrupted(fastpath, tid))
        return 0;
    if (!find_record(&fastpath->waits, tid)
        && (!fastpath->waits.begins || syscall4(NR_ptrace, PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0
            || info.op == SYSCALL_INFO_ENTRY))
        return 0;
    drop_record(&fastpath->waits, tid); /* another call's exit is not to be taken for its own */
    go_on(fastpath, tid, 0);
    return 1;
#else
    (void)fastpath, (void)tid;
    return 0;
#endif
}

/* At the entry or the exit of a system call of a task that has no filter. */
static int lets_call_go(struct fastpath *fastpath, uint64_t tid)
{
    struct syscall_info info;
    if (!fastpath->lets_calls_go || syscall4(NR_ptrace, PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0)
        return 0;
    if (info.op == SYSCALL_INFO_ENTRY && is_of_interest(fastpath, &info) && !begins_wait(&fastpath->waits, tid, &info))
        return 0;
    if (info.op != SYSCALL_INFO_ENTRY && is_interrupted(fastpath, tid))
        return 0;
    go_to_exit(fastpath, tid);
    return 1;
}

/* A signal that stops the process ends such calls too, and SIGCONT must not begin them anew. */
static int ends_interrupted(struct fastpath *fastpath, uint64_t tid)
{
    struct registers registers;
    if (!reads_interrupted(fastpath, tid, &registers))
        return 0;
    if ((int64_t)registers.INTERRUPTED_SYSCALL < 0
        || ((int64_t)registers.SYSCALL_RESULT != -EINTR && (int64_t)registers.SYSCALL_RESULT != -EFAULT))
        return 1;
    forget_interrupted(fastpath, tid);
    registers.INTERRUPTED_SYSCALL = -1;
    return set_registers(tid, &registers) >= 0;
}

static int is_full(const struct fastpath *fastpath)
{
    return fastpath->entry_count == FASTPATH_ENTRIES;
}

static void record(struct fastpath *fastpath, uint64_t event, uint64_t tid, uint64_t what, uint64_t base)
{
    struct fastpath_entry *entry = &fastpath->entries[fastpath->entry_count++];
    entry->event = event;
    entry->tid = tid;
    entry->what = what;
    entry->base = base;
    entry->at_ns = now_ns();
}

/* Whether a task is a thread of the process that another belongs to; negative: it cannot be told. */
static long is_thread_beside(uint64_t tid, uint64_t other)
{
    char path[2 * PROCESS_PATH], file[256]; /* struct statx */
    char *end = put_text(put_number(put_text(path, "/proc/"), other), "/task/");
    *put_number(end, tid) = 0;
    long error = syscall5(NR_statx, AT_FDCWD, path, 0, 0, file);
    return error == -ENOENT ? 0 : error < 0 ? error : 1;
}

static int sees_birth(struct fastpath *fastpath, uint64_t parent, uint64_t event)
{
    uint64_t child = 0;
    if (syscall4(NR_ptrace, PTRACE_GETEVENTMSG, parent, 0, &child) < 0)
        return 0;
    if (is_among(fastpath->early, FASTPATH_LIST, child))
        return 0; /* the tracer has its stop, and waits to hear whose it is */
    /* Now: when the tracer asks it may have ended. */
    long is_thread = event == EVENT_CLONE ? is_thread_beside(child, parent) : 0;
    if (is_thread < 0)
        return 0;
    *mark_of(fastpath, child) = *mark_of(fastpath, parent);
    *mapped_of(fastpath, child) = *mapped_of(fastpath, parent);
    record(fastpath, event, parent, child, is_thread);
    if (fastpath->expected_count < FASTPATH_LIST)
        fastpath->expected[fastpath->expected_count++] = child;
    go_on(fastpath, parent, 0);
    return 1;
}

/* Whether a program's file is set-user-ID or set-group-ID, or has capabilities. */
static int has_privilege(uint64_t pid)
{
    char path[PROCESS_PATH];
    struct { uint32_t mask, blksize; uint64_t attributes; uint32_t nlink, uid, gid; uint16_t mode; char rest[228]; } file;
    process_path(path, pid, "/exe");
    if (syscall5(NR_statx, AT_FDCWD, path, 0, STATX_MODE, &file) < 0)
        return 1;
    return file.mode & (S_ISUID | S_ISGID) || syscall4(NR_getxattr, path, "security.capability", 0, 0) > 0;
}

static int is_same(const struct executed *one, const struct executed *other)
{
    if (one->size != other->size)
        return 0;
    for (uint64_t i = 0; i < one->size; i++)
        if (one->paths[i] != other->paths[i])
            return 0;
    return 1;
}

/* The known program that a task has executed, or 0. */
static const struct fastpath_program *find_program(struct fastpath *fastpath, uint64_t tid, struct arguments *arguments)
{
    struct executed executed;
    long result = ANOTHER_KIND;
    for (int kind = 0; kind < FASTPATH_KINDS && result == ANOTHER_KIND; kind++)
        if (fastpath->blocks[kind])
            result = read_executed(tid, (const struct takeover_block *)fastpath->blocks[kind], &executed, arguments);
    for (uint64_t i = 0; !result && i < fastpath->program_count; i++)
        if (is_same(&fastpath->programs[i].executed, &executed))
            return &fastpath->programs[i];
    return 0;
}

static int sees_exec(struct fastpath *fastpath, uint64_t tid)
{
    uint64_t former = 0, base = 0;
    long result = ANOTHER_KIND;
    int kind = 0;
    if (*mark_of(fastpath, tid) & MARK_EXECS || (fastpath->asks_privilege && has_privilege(tid)))
        return 0;
    if (syscall4(NR_ptrace, PTRACE_GETEVENTMSG, tid, 0, &former) < 0)
        return 0;
    struct arguments *arguments = &fastpath->entries[fastpath->entry_count].arguments; /* of the next one */
    const struct fastpath_program *program = fastpath->selects ? find_program(fastpath, tid, arguments) : 0;
    if (fastpath->selects && !program)
        return 0;
    if (program && !program->is_on_clock) {
        kind = FASTPATH_KINDS;
        result = TAKEN_OVER;
    }
    for (; kind < FASTPATH_KINDS; kind++) {
        if (fastpath->blocks[kind])
            result = take_over(tid, tid, (const struct takeover_block *)fastpath->blocks[kind], &base, arguments);
        if (result != ANOTHER_KIND)
            break;
    }
    if (result != TAKEN_OVER)
        return 0;
    *mark_of(fastpath, tid) = kind == FASTPATH_KINDS ? MARK_SKIPPED : 0;
    *mapped_of(fastpath, tid) = 0;
    if (kind < FASTPATH_KINDS) {
        const struct takeover_block *block = (const struct takeover_block *)fastpath->blocks[kind];
        *mapped_of(fastpath, tid) = ((const struct loader_parameters *)block->parameters)->address + base - block->reference_base;
    }
    record(fastpath, EVENT_EXEC, tid, former, base);
    fastpath->entries[fastpath->entry_count - 1].kind = kind;
    go_on(fastpath, tid, 0);
    return 1;
}

/* Whether its parent's report has come, and this is the first of its own. */
static int was_expected(struct fastpath *fastpath, uint64_t tid)
{
    for (uint64_t i = 0; i < fastpath->expected_count; i++)
        if (fastpath->expected[i] == tid) {
            fastpath->expected[i] = fastpath->expected[--fastpath->expected_count];
            return 1;
        }
    return 0;
}

/* A timer's signal may not say yet all that it should, and of a fault not every process dies that would alone
 * (tracer/crashes.py). */
static int needs_thought(uint64_t tid, int signal)
{
    struct { int32_t signo, error, code, rest[29]; } info;
    if (syscall4(NR_ptrace, PTRACE_GETSIGINFO, tid, 0, &info) < 0)
        return 1;
    return info.code == SI_TIMER || (info.code > 0 && FAULTS >> signal & 1);
}

/* What is to be known of a report, here or in Python. Returns whether it is the expected first of its task. */
static int takes_note(struct fastpath *fastpath, uint64_t tid, int status)
{
    int event = status >> 16, is_first = was_expected(fastpath, tid);
    if ((status & 0xff) != 0x7f || event == EVENT_EXEC)
        drop_record(&fastpath->waits, tid);
    /* Perhaps the first of a task whose birth will be seen to here. */
    if (event == EVENT_STOP && !is_first)
        fastpath->early[fastpath->early_count++ % FASTPATH_LIST] = tid;
    return is_first;
}

/* Takes the children of starts (spawn.h) that have been born. Returns how many are yet to be and will not ring, or -1
 * where the tracer has to see to it. */
static int take_children(struct fastpath *fastpath)
{
    int left = 0;
    for (int i = 0; i < FASTPATH_LIST; i++) {
        struct spawn *spawn = (struct spawn *)__atomic_load_n(&fastpath->spawns[i], __ATOMIC_ACQUIRE);
        if (!spawn || spawn->patience == CANCELED)
            continue;
        uint64_t pid = __atomic_load_n(&spawn->pid, __ATOMIC_SEQ_CST);
        if (!pid) {
            left += !spawn->rings;
            continue;
        }
        if (is_full(fastpath) || fastpath->watched_count == FASTPATH_TASKS || fastpath->expected_count == FASTPATH_LIST)
            return -1;
        if (syscall4(NR_ptrace, PTRACE_SEIZE, pid, 0, fastpath->seize_options) < 0)
            return -1;
        __atomic_store_n(&fastpath->spawns[i], 0, __ATOMIC_RELEASE);
        spawn->is_taken = 1;
        *mark_of(fastpath, pid) = spawn->mark;
        fastpath->watched[fastpath->watched_count++] = pid;
        record(fastpath, EVENT_CHILD, pid, 0, 0);
        if (!release_spawn(spawn)) {
            fastpath->expected[fastpath->expected_count++] = pid;
            if (syscall4(NR_ptrace, PTRACE_INTERRUPT, pid, 0, 0) < 0)
                spawn->is_asleep = 1;
        }
    }
    return left;
}

/* A child is announced, which takes less time to come than it would to sleep and to be woken; or it rings itself. */
static int awaits_children(struct fastpath *fastpath)
{
    uint64_t start_ns = now_ns();
    int left = take_children(fastpath);
    while (left > 0 && now_ns() - start_ns < CHILD_NS) {
        syscall0(NR_sched_yield);
        left = take_children(fastpath);
    }
    if (left > 0) {
        for (int i = 0; i < FASTPATH_LIST; i++)
            if (fastpath->spawns[i])
                have_ring((struct spawn *)fastpath->spawns[i]);
        left = take_children(fastpath);
    }
    return left >= 0;
}

static int handles(struct fastpath *fastpath, uint64_t tid, int status, int is_first)
{
    int event = status >> 16, signal = status >> 8 & 0xff;
    if (tid == fastpath->waker && status >> 8 == CHILD_COMES && !fastpath->hands_over_all && awaits_children(fastpath)) {
        go_on(fastpath, tid, 0);
        return 1;
    }
    if (is_among(fastpath->special, fastpath->special_count, tid))
        return 0;
    if (status >> 8 == SYSCALL_TRAP) {
        int is_done = ends_file_call(fastpath, tid);
        return is_done != OTHER_CALL ? is_done : lets_wait_end(fastpath, tid) || lets_call_go(fastpath, tid);
    }
    if (event == EVENT_SECCOMP && *mark_of(fastpath, tid) & MARK_SKIPPED && lets_skipped_call(fastpath, tid))
        return 1;
    if (fastpath->hands_over_all || is_full(fastpath))
        return 0;
    if ((status & 0xff) != 0x7f) {
        if (fastpath->is_not_taken || is_among(fastpath->watched, fastpath->watched_count, tid))
            return 0;
        record(fastpath, 0, tid, (uint32_t)status, 0);
        return 1;
    }
    switch (event) {
    case 0:
        if (signal == SIGSEGV || needs_thought(tid, signal))
            return 0;
        if (!(signal >= SIGSTOP && signal <= SIGTTOU ? ends_interrupted(fastpath, tid) : hides_interrupt(fastpath, tid)))
            return 0;
        go_on(fastpath, tid, signal);
        return 1;
    case EVENT_FORK:
    case EVENT_VFORK:
    case EVENT_CLONE:
        return sees_birth(fastpath, tid, event);
    case EVENT_EXEC:
        return sees_exec(fastpath, tid);
    case EVENT_STOP:
        if (signal != SIGTRAP || !is_first)
            return 0;
        go_on(fastpath, tid, 0);
        return 1;
    case EVENT_SECCOMP:
        return tells_itself(fastpath, tid) || sees_call(fastpath, tid);
    }
    return 0;
}

/* Whether a task has a stop that is yet to be reported. */
int has_report(uint64_t tid)
{
    struct { int32_t signo, error, code, pad, pid, rest[27]; } info;
    return syscall5(NR_waitid, P_PID, tid, &info, WSTOPPED | WNOHANG | WNOWAIT | WALL | WNOTHREAD, 0) >= 0 && info.pid;
}

/* Whether it is the stop of a leader whose place a thread has taken meanwhile, by an exec that is yet to be
 * reported (ptrace(2), "execve(2) under ptrace"), or was behind it. What is reported alone is handled at once. A process
 * may send itself a SIGTRAP that looks like that (rt_sigqueueinfo(2)). */
static int has_passed(const struct fastpath_report *report, const struct fastpath_report *end)
{
    struct { int32_t signo, error, code, pad, pid, rest[27]; } info;
    if ((report->status & 0xff) != 0x7f || report->status >> 16 == EVENT_EXEC)
        return 0;
    if (syscall4(NR_ptrace, PTRACE_GETSIGINFO, report->tid, 0, &info) < 0 || info.signo != SIGTRAP
        || info.code != (SIGTRAP | EVENT_EXEC << 8))
        return 0;
    if (report->status >> 8 != SIGTRAP)
        return 1;
    for (const struct fastpath_report *later = report + 1; later < end; later++)
        if (later->tid == report->tid && later->status >> 16 == EVENT_EXEC)
            return 1;
    return has_report(report->tid);
}

/* What wait4(2) says, of task `id` or, by -1, of any, but for the ends that are not to be taken: so every report is looked
 * at first then. */
static long take_report(struct fastpath *fastpath, long id, int *status, long options)
{
    struct { int32_t signo, error, code, pad, pid, uid, status, rest[25]; } info;
    options |= WALL | WNOTHREAD;
    fastpath->is_not_taken = 0;
    if (!fastpath->looks_first)
        return syscall4(NR_wait4, id, status, options, 0);
    long of_all = id < 0 && fastpath->overlooks_ends ? WSTOPPED : WSTOPPED | WEXITED;
    for (;;) {
        long error = syscall5(NR_waitid, id < 0 ? P_ALL : P_PID, id, &info, of_all | WNOWAIT | options, 0);
        if (error < 0)
            return error;
        if (!info.pid)
            return 0;
        if (info.code <= CLD_DUMPED) {
            *status = info.code == CLD_EXITED ? info.status << 8 : info.status | (info.code == CLD_DUMPED) << 7;
            fastpath->is_not_taken = 1;
            return info.pid;
        }
        long tid = info.pid;
        error = syscall5(NR_waitid, P_PID, tid, &info, WSTOPPED | WNOHANG | options, 0);
        if (error == 0 && info.pid) {
            *status = info.status << 8 | 0x7f;
            return tid;
        } /* else it was killed, or another thread has taken it */
    }
}

/* Likewise. Any stop but those to which a call is interrupted shows that the task has gone on since. */
__attribute__((visibility("default")))
long next_report(struct fastpath *fastpath, long id, int *status, long options)
{
    long tid = take_report(fastpath, id, status, options);
    if (tid > 0 && ((*status & 0xff) != 0x7f || *status >> 8 == SYSCALL_TRAP || (*status >> 16 && *status >> 16 != EVENT_STOP)))
        forget_interrupted(fastpath, tid);
    return tid;
}

/* The next report, or 0 if there is none in this time. Nothing ends a wait but a report or a signal: so it is asked for
 * again and again, which is for the moments when the tracer wants the programs to come to rest. */
static long wait_patiently(struct fastpath *fastpath, int *status)
{
    uint64_t start_ns = now_ns(), passed_ns;
    syscall2(NR_prctl, PR_SET_TIMERSLACK, 1);
    do {
        long tid = 0;
        for (int i = 0; i < (fastpath->patience_ns > BRIEF_NS ? SPINS_A_LOOK : 1) && !tid; i++)
            tid = next_report(fastpath, -1, status, WNOHANG);
        if (tid)
            return tid;
        passed_ns = now_ns() - start_ns;
        if (passed_ns > BRIEF_NS && !fastpath->engine) { /* which has none but brief ones */
            const struct timespec nap = {0, passed_ns / LATE_SHARE > NAP_NS ? passed_ns / LATE_SHARE : NAP_NS};
            syscall2(NR_nanosleep, &nap, 0);
        } else
            cpu_relax();
    } while (passed_ns < fastpath->patience_ns);
    return 0;
}

static int is_birth(const struct fastpath_report *report)
{
    int event = report->status >> 16;
    return event == EVENT_FORK || event == EVENT_VFORK || event == EVENT_CLONE;
}

/* Perhaps the first stop of a task whose parent's report is yet to come. */
static int is_early(const struct fastpath *fastpath, const struct fastpath_report *report)
{
    return report->status >> 8 == (EVENT_STOP << 8 | SIGTRAP)
        && !is_among(fastpath->expected, fastpath->expected_count, report->tid)
        && !is_among(fastpath->special, fastpath->special_count, report->tid);
}

/* A child may be quicker to its first stop than its parent to the report of its birth. */
static void put_births_first(struct fastpath_report *reports, uint64_t count)
{
    uint64_t births = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (!is_birth(&reports[i]))
            continue;
        struct fastpath_report birth = reports[i];
        for (uint64_t j = i; j > births; j--)
            reports[j] = reports[j - 1];
        reports[births++] = birth;
    }
}

/* All that is to be reported, once: Linux looks through the tracees in the same order at each wait, and busy
 * ones would let the others starve, the tracer's waker among them. */
static long take_reports(struct fastpath *fastpath, int spins)
{
    struct fastpath_report *reports = fastpath->reports;
    uint64_t count = 0;
    int status;
    long tid = 0;
    /* A task that reads a clock by a system call, or stops at both ends of each, does so again soon: to sleep and be
     * woken takes longer. */
    for (int i = 0; i < spins && !tid; i++)
        tid = next_report(fastpath, -1, &status, WNOHANG);
    if (!tid && fastpath->patience_ns)
        tid = wait_patiently(fastpath, &status);
    else if (!tid)
        tid = next_report(fastpath, -1, &status, 0);
    if (tid <= 0)
        return tid;
    /* One that does so often waits for no others, but once in a while. */
    if (tid > 0 && spins && status >> 16 == EVENT_SECCOMP && fastpath->alone_count++ < MOST_ALONE) {
        reports[0] = (struct fastpath_report){tid, status};
        return 1;
    }
    fastpath->alone_count = 0;
    while (tid > 0) {
        reports[count++] = (struct fastpath_report){tid, status};
        if (count == FASTPATH_BATCH || fastpath->is_not_taken)
            break;
        tid = next_report(fastpath, -1, &status, WNOHANG);
        if (!tid && is_early(fastpath, &reports[count - 1]))
            for (uint64_t start_ns = now_ns(); !tid && now_ns() - start_ns < BIRTH_NS;)
                tid = next_report(fastpath, -1, &status, WNOHANG);
    }
    put_births_first(reports, count);
    return count;
}

void begin_news(struct fastpath *fastpath)
{
    fastpath->entry_count = fastpath->reader_count = fastpath->failure_count = 0;
}

/* While the engine moves the lines it ends as soon as there is nothing to be done, or something has been. */
long wait_for_news(struct fastpath *fastpath)
{
    int spins = 0;
    fastpath->report_count = 0;
    for (;;) {
        long count = take_reports(fastpath, spins);
        int has_news = 0, is_in_call = 0;
        if (count < 0)
            return count;
        if (count == 0)
            return NOTHING;
        for (long i = 0; i < count; i++) {
            struct fastpath_report report = fastpath->reports[i];
            uint64_t entries = fastpath->entry_count;
            if (count > 1 && has_passed(&fastpath->reports[i], fastpath->reports + count))
                continue;
            int is_first = takes_note(fastpath, report.tid, report.status);
            /* Behind one that is the tracer's all are: it may be about them. */
            if (fastpath->report_count || !handles(fastpath, report.tid, report.status, is_first)) {
                fastpath->reports[fastpath->report_count++] = report;
                continue;
            }
            is_in_call |= report.status >> 16 == EVENT_SECCOMP || report.status >> 8 == SYSCALL_TRAP
                || is_birth(&report);
            has_news |= fastpath->entry_count > entries && fastpath->entries[entries].event == EVENT_EXEC
                && is_among(fastpath->watched, fastpath->watched_count, report.tid);
        }
        if (fastpath->report_count)
            return STOP;
        if (has_news || fastpath->failure_count)
            return NEWS;
        if (fastpath->engine)
            return NOTHING;
        spins = is_in_call ? SPINS : 0;
    }
}

/* Returns with stops for the tracer to handle, or news that it waits for. What else was handled is told then: it does
 * not ask before. */
__attribute__((visibility("default")))
long fastpath(struct fastpath *fastpath)
{
    begin_news(fastpath);
    return wait_for_news(fastpath);
}
