/* A program's start with nothing in between: a fork, and in the child all that subprocess's own child does, then a wait
 * for the tracer, and the exec. The fork is a vfork, unless the child changes its user: that would change what others may
 * do with the memory that it shares (commit_creds, kernel/cred.c). Or Python has forked, and its child ends here.
 *
 * Part of a shared object in the tracer's process; not called on the tracer's thread, for which the child waits.
 */
#include "spawn.h"

#include "tracer.h"

/* linux/sched.h, linux/prctl.h, linux/seccomp.h, asm-generic/{signal,errno-base,resource}.h, linux/fcntl.h */
#define CLONE_VM 0x100
#define CLONE_PIDFD 0x1000
#define CLONE_VFORK 0x4000
#define CLONE_PARENT_SETTID 0x100000
#define CLONE_CLEAR_SIGHAND 0x100000000
#define PR_SET_PDEATHSIG 1
#define PR_GET_PDEATHSIG 2
#define PR_SET_NO_NEW_PRIVS 38
#define SECCOMP_SET_MODE_FILTER 1
#define SIGKILL 9
#define SIGUSR1 10
#define SIGPIPE 13
#define SIGCHLD 17
#define SIGXFSZ 25
#define SIGNALS 64
#define SIG_IGN 1
#define SIG_SETMASK 2
#define SIGSET_SIZE 8
#define F_SETFD 2
#define ENOENT 2
#define ESRCH 3
#define POLLIN 1
#define EFAULT 14
#define ENOTDIR 20
#define EINVAL 22
#define RLIMIT_NOFILE 7
#define STACK_SIZE 8192
#define SPINS 2000 /* some 50 microseconds */
#define NAP_NS 200000
#define NAPS 50000 /* ten seconds: one that is stopped meanwhile (SIGSTOP) must not stop all others */

/* struct sock_filter (seccomp(2)) */
struct instruction { uint16_t code; uint8_t if_true, if_false; uint32_t operand; };

/* struct sigaction as the kernel has it */
struct action { uint64_t handler, flags, restorer, mask; };

static void exit_with(int status)
{
    for (;;)
        syscall1(NR_exit_group, status);
}

/* By a futex without a timeout, at which the filter does not stop. After a ptrace stop it is restarted, and looks at its
 * word again: the tracer need not touch registers. */
static void sleep_until_stopped(volatile uint64_t *patience)
{
    syscall4(NR_futex, (long)patience, 0 /* FUTEX_WAIT */, 1, 0);
}

/* The tracer is on its way: going to sleep and being woken would take longer than it does. (To yield
 * instead would be to wait for any other task with work, a slice each time.) */
static void wait_for_tracer(volatile uint64_t *patience, volatile uint64_t *state)
{
    for (int i = 0; *patience && i < SPINS; i++)
        cpu_relax();
    while (*patience) {
        __atomic_store_n(state, ASLEEP, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(patience, __ATOMIC_SEQ_CST))
            sleep_until_stopped(patience);
    }
}

/* A task without CAP_SYS_ADMIN must first give up what set-user-ID files would give, which a program
 * traced by an ordinary user does not get anyway (execve(2)). Returns 0 where that is refused. */
static int install_filter(const struct instruction *filter, uint16_t length)
{
    struct { uint16_t length; const struct instruction *filter; } program = {length, filter};
    if (!syscall3(NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        return 1;
    syscall5(NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return !syscall3(NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

/* The first candidate that can be executed, as execvp(3) and subprocess do. Returns the errno if none can. */
static int execute(const char *const *candidates, long count, char *const *argv, char *const *envp)
{
    int first_errno = 0, last_errno = ENOENT;
    for (long i = 0; i < count; i++) {
        last_errno = -(int)syscall3(NR_execve, (long)candidates[i], (long)argv, (long)envp);
        if (!first_errno && last_errno != ENOENT && last_errno != ENOTDIR)
            first_errno = last_errno;
    }
    return first_errno ? first_errno : last_errno;
}

static void fail(struct spawn *s, enum stage stage, long error)
{
    s->failed_in = stage;
    wait_for_tracer(&s->patience, &s->state); /* it is to hear of the end */
    exit_with(-error);
}

static long check(struct spawn *s, long result)
{
    if (result < 0)
        fail(s, ELSEWHERE, result);
    return result;
}

/* close_range(2), and what does for it before Linux 5.9. */
static void close_from_to(uint32_t first, uint32_t last)
{
    struct { uint64_t now, most; } limit = {0, 0};
    if (!syscall3(NR_close_range, first, last, 0))
        return;
    syscall4(NR_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit);
    for (uint64_t fd = first; fd <= last && fd < limit.most && fd < INT32_MAX; fd++)
        syscall1(NR_close, fd);
}

static void arrange_descriptors(struct spawn *s)
{
    const int *kept = (const int *)s->kept;
    int64_t *streams = s->streams;

    for (uint64_t i = 0; i < s->kept_count; i++)
        check(s, syscall3(NR_fcntl, kept[i], F_SETFD, 0));
    for (int i = 0; i < 4; i++)
        if (s->superfluous[i] != -1)
            check(s, syscall1(NR_close, s->superfluous[i]));
    /* Out of the way of those that come before them. */
    for (int i = 1; i < 3; i++)
        while (streams[i] >= 0 && streams[i] < i)
            streams[i] = check(s, syscall1(NR_dup, streams[i]));
    for (int i = 0; i < 3; i++)
        if (streams[i] == i)
            check(s, syscall3(NR_fcntl, i, F_SETFD, 0));
        else if (streams[i] != -1)
            check(s, syscall3(NR_dup3, streams[i], i, 0));
}

static void close_others(struct spawn *s)
{
    const int *kept = (const int *)s->kept;
    uint32_t first = 3;

    if (!s->closes_others)
        return;
    for (uint64_t i = 0; i < s->kept_count; i++) {
        if (kept[i] > (int)first)
            close_from_to(first, kept[i] - 1);
        if (kept[i] >= (int)first)
            first = kept[i] + 1;
    }
    close_from_to(first, ~0u);
}

/* What Python ignores and programs should not. */
static void restore_signals(void)
{
    const struct action by_default = {0};
    syscall4(NR_rt_sigaction, SIGPIPE, (long)&by_default, 0, SIGSET_SIZE);
    syscall4(NR_rt_sigaction, SIGXFSZ, (long)&by_default, 0, SIGSET_SIZE);
}

/* Signals that come before the exec do what they would do behind it (execve(2)): no handler of the parent's hears of
 * them. A child that shares the parent's memory is born so (CLONE_CLEAR_SIGHAND, clone3(2)). */
static void reset_handlers(void)
{
    const struct action by_default = {0};
    struct action action;
    for (int number = 1; number <= SIGNALS; number++)
        if (!syscall4(NR_rt_sigaction, number, 0, (long)&action, SIGSET_SIZE) && action.handler > SIG_IGN)
            syscall4(NR_rt_sigaction, number, (long)&by_default, 0, SIGSET_SIZE);
}

/* The child does not outlive its parent. Returns the parent-death signal (prctl(2)) that it had:
 * its parent may have given it one. */
static int follow_parent(struct spawn *s)
{
    int former = 0;
    syscall2(NR_prctl, PR_GET_PDEATHSIG, (long)&former);
    syscall2(NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
    uint64_t parent = syscall0(NR_getppid); /* 0: outside of this pid namespace */
    if (parent && parent != s->parent)
        exit_with(EXIT_NO_PARENT);
    return former;
}

static void change_identity(struct spawn *s)
{
    if (s->group_count >= 0)
        check(s, syscall2(NR_setgroups, s->group_count, s->groups));
    if (s->gid >= 0)
        check(s, syscall2(NR_setregid, s->gid, s->gid));
    if (s->uid >= 0)
        check(s, syscall2(NR_setreuid, s->uid, s->uid));
}

/* The filter comes first: as root it needs no PR_SET_NO_NEW_PRIVS, which would take their privilege from the set-user-ID
 * files that an ordinary user executes. */
static void be_program(struct spawn *s, int parent_death_signal)
{
    if (!install_filter((const struct instruction *)s->filter, s->filter_length))
        fail(s, AT_EXEC, -EXIT_NO_FILTER);

    wait_for_tracer(&s->patience, &s->state);

    syscall2(NR_prctl, PR_SET_PDEATHSIG, parent_death_signal);
    change_identity(s);
    syscall4(NR_rt_sigprocmask, SIG_SETMASK, (long)&s->signals, 0, SIGSET_SIZE);
    exit_with(execute((const char *const *)s->candidates, s->candidate_count, (char *const *)s->argv,
                      (char *const *)s->envp));
}

static void be_child(void *spawn)
{
    struct spawn *s = spawn;
    long error;

    s->state = AWAKE;
    if (s->patience == CANCELED)
        exit_with(EXIT_NO_PARENT);
    if (s->rings && s->waker)
        syscall2(NR_kill, s->waker, s->rings);
    int parent_death_signal = follow_parent(s);
    arrange_descriptors(s);
    close_others(s);
    if (s->directory && (error = syscall1(NR_chdir, s->directory)) < 0)
        fail(s, IN_DIRECTORY, error);
    if (s->umask >= 0)
        syscall1(NR_umask, s->umask);
    if (s->begins_session)
        check(s, syscall0(NR_setsid));
    if (s->group >= 0)
        check(s, syscall2(NR_setpgid, 0, s->group));
    if (s->restores_signals)
        restore_signals();
    be_program(s, parent_death_signal);
}

/* struct clone_args (clone3(2)) */
struct clone_args { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls; };

static long share_memory(struct spawn *s)
{
    _Alignas(16) char stack[STACK_SIZE];
    const struct clone_args how = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | CLONE_CLEAR_SIGHAND,
        .parent_tid = (uint64_t)&s->pid,
        .exit_signal = SIGCHLD,
        .stack = (uint64_t)stack,
        .stack_size = STACK_SIZE,
    };
    return clone_to(&how, sizeof how, be_child, s);
}

static long copy_memory(struct spawn *s)
{
    long pid = syscall5(NR_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, (long)&s->pid, 0, 0);
    if (!pid) {
        reset_handlers();
        be_child(s);
    }
    return pid;
}

/* Returns the errno of the fork; where the child shares this process's memory, when it has executed its program or has
 * ended. */
__attribute__((visibility("default")))
long spawn(struct spawn *s)
{
    const uint64_t all = ~0ULL;
    syscall4(NR_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&s->signals, SIGSET_SIZE);
    long result = s->shares_memory ? share_memory(s) : copy_memory(s);
    syscall4(NR_rt_sigprocmask, SIG_SETMASK, (long)&s->signals, 0, SIGSET_SIZE);
    return result < 0 ? -result : 0;
}

/* This process, which Python has forked and prepared, becomes the program. */
__attribute__((visibility("default")))
void become(struct spawn *s)
{
    const uint64_t all = ~0ULL;
    syscall4(NR_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&s->signals, SIGSET_SIZE);
    reset_handlers();
    s->state = AWAKE;
    int parent_death_signal = follow_parent(s);
    close_others(s); /* the rest was done before the preexec_fn */
    be_program(s, parent_death_signal);
}

/* A zombie is not. Before Linux 5.3, and where there is no descriptor left, it is. */
static int is_alive(uint64_t pid)
{
    const struct timespec none = {0, 0};
    struct { int32_t fd; int16_t events, found; } ends = {.events = POLLIN};
    long fd = syscall2(NR_pidfd_open, pid, 0);
    if (fd < 0)
        return syscall2(NR_kill, pid, 0) != -ESRCH;
    ends.fd = (int32_t)fd;
    long has_ended = syscall5(NR_ppoll, (long)&ends, 1, (long)&none, 0, 0);
    syscall1(NR_close, fd);
    return has_ended != 1;
}

/* One at a time; a holder that was killed holds no longer. */
static int enter(struct spawn *s, uint64_t own)
{
    const struct timespec nap = {0, NAP_NS};
    for (int i = 0; i < NAPS; i++) {
        uint64_t holder = 0;
        if (s->is_closed || !is_alive(s->parent))
            return 0;
        if (__atomic_compare_exchange_n(&s->holder, &holder, own, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return 1;
        if (!is_alive(holder))
            __atomic_compare_exchange_n(&s->holder, &holder, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        else
            syscall2(NR_nanosleep, &nap, 0);
    }
    return 0;
}

static void leave(struct spawn *s)
{
    s->pid = 0;
    __atomic_store_n(&s->holder, 0, __ATOMIC_SEQ_CST);
}

/* A descendant of the tracer's process is about to execute a program, by code that is not ours: it waits here until the
 * tracer has seized it. The structure is a gate that all of them share. Returns 0, or ESRCH where it was not seized, as
 * there is no tracer any more, or another process does not leave. */
__attribute__((visibility("default")))
long enlist(struct spawn *s)
{
    const uint64_t all = ~0ULL;
    const struct timespec moment = {1, 0};
    uint64_t signals, own = syscall0(NR_getpid);
    long error = 0;

    syscall4(NR_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&signals, SIGSET_SIZE);
    if (!enter(s, own)) {
        error = ESRCH;
    } else {
        s->state = ASLEEP; /* a stop is to wake it up */
        __atomic_store_n(&s->patience, 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&s->pid, own, __ATOMIC_SEQ_CST);
        if (s->waker) /* else, or if it may not, it waits until the tracer looks around */
            syscall2(NR_kill, s->waker, SIGUSR1);
        while (!error && s->patience == 1) {
            syscall4(NR_futex, (long)&s->patience, 0 /* FUTEX_WAIT */, 1, (long)&moment);
            if (s->patience == 1 && (s->is_closed || !is_alive(s->parent)))
                error = ESRCH;
        }
        if (!error && !install_filter((const struct instruction *)s->filter, s->filter_length))
            exit_with(EXIT_NO_FILTER); /* it must not become a program that is half on the clock */
        leave(s);
    }
    syscall4(NR_rt_sigprocmask, SIG_SETMASK, (long)&signals, 0, SIGSET_SIZE);
    return error;
}

__attribute__((visibility("default")))
long release_spawn(struct spawn *s)
{
    __atomic_store_n(&s->patience, 0, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&s->state, __ATOMIC_SEQ_CST) != ASLEEP;
}

/* Linux 5.5 and later, and no sandbox that forbids clone3(2). An older one, which does not know the flag, says EINVAL; any
 * other finds out that there is no place for a descriptor before the child runs (copy_process, kernel/fork.c). */
__attribute__((visibility("default")))
int can_share_memory(void)
{
    const struct clone_args how = {.flags = CLONE_VM | CLONE_PIDFD | CLONE_CLEAR_SIGHAND, .pidfd = UINT64_MAX, .exit_signal = SIGCHLD};
    return syscall2(NR_clone3, &how, sizeof how) == -EFAULT;
}

/* The child is to ring, if it is not born yet. */
__attribute__((visibility("default")))
void have_ring(struct spawn *s)
{
    uint64_t none = 0;
    __atomic_compare_exchange_n(&s->rings, &none, CHILD_COMES, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* A child that is yet to be born ends at once. Returns the pid of one that is. */
__attribute__((visibility("default")))
long cancel_spawn(struct spawn *s)
{
    __atomic_store_n(&s->patience, CANCELED, __ATOMIC_SEQ_CST);
    return s->pid;
}
