/* A program's start with nothing in between: by vfork, and in the child, which has this process's memory until its exec,
 * all that subprocess's own child does, and what the launcher does (launch.c).
 *
 * Part of a shared object in the tracer's process; not called on the tracer's thread, for which the child waits.
 */
#include "spawn.h"

#include "program/launch.h"

/* linux/sched.h, asm-generic/signal.h, linux/fcntl.h */
#define CLONE_VM 0x100
#define CLONE_VFORK 0x4000
#define CLONE_PARENT_SETTID 0x100000
#define CLONE_CLEAR_SIGHAND 0x100000000
#define SIGPIPE 13
#define SIGCHLD 17
#define SIGXFSZ 25
#define SIG_SETMASK 2
#define F_SETFD 2
#define EINVAL 22 /* asm-generic/errno-base.h */
#define STACK_SIZE 8192

/* struct sigaction as the kernel has it */
struct action { uint64_t handler, flags, restorer, mask; };

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

static void arrange_descriptors(struct spawn *s)
{
    const int *kept = (const int *)s->kept;
    int64_t *streams = s->streams;
    uint32_t first = 3;

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
    if (!s->closes_others)
        return;
    for (uint64_t i = 0; i < s->kept_count; i++) {
        if (kept[i] > (int)first)
            syscall3(NR_close_range, first, kept[i] - 1, 0);
        if (kept[i] >= (int)first)
            first = kept[i] + 1;
    }
    syscall3(NR_close_range, first, ~0u, 0);
}

/* What Python ignores and programs should not. This process's handlers, which must not run in a child that has its
 * memory, are gone (CLONE_CLEAR_SIGHAND, clone3(2)). */
static void restore_signals(void)
{
    const struct action by_default = {0};
    syscall4(NR_rt_sigaction, SIGPIPE, &by_default, 0, SIGSET_SIZE);
    syscall4(NR_rt_sigaction, SIGXFSZ, &by_default, 0, SIGSET_SIZE);
}

static void be_child(void *spawn)
{
    struct spawn *s = spawn;
    int parent_death_signal = 0;
    long error;

    s->state = AWAKE;
    if (s->patience == CANCELED)
        exit_with(EXIT_NO_PARENT);
    if (s->rings && s->waker)
        syscall2(NR_kill, s->waker, CHILD_COMES);
    /* As in launch.c. */
    syscall2(NR_prctl, PR_GET_PDEATHSIG, (long)&parent_death_signal);
    syscall2(NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
    uint64_t parent = syscall0(NR_getppid);
    if (parent && parent != s->parent)
        exit_with(EXIT_NO_PARENT);
    arrange_descriptors(s);
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
    if (!install_filter((const struct instruction *)s->filter, s->filter_length))
        fail(s, AS_LAUNCHER, -EXIT_NO_FILTER);

    wait_for_tracer(&s->patience, &s->state);

    syscall2(NR_prctl, PR_SET_PDEATHSIG, parent_death_signal);
    syscall4(NR_rt_sigprocmask, SIG_SETMASK, &s->signals, 0, SIGSET_SIZE);
    exit_with(execute((const char *const *)s->candidates, s->candidate_count, (char *const *)s->argv,
                      (char *const *)s->envp));
}

/* struct clone_args (clone3(2)) */
struct clone_args { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls; };

/* Returns when the child has executed its program, or has ended: the errno of the fork. */
__attribute__((visibility("default")))
long spawn(struct spawn *s)
{
    _Alignas(16) char stack[STACK_SIZE];
    const uint64_t all = ~0ULL;
    const struct clone_args how = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | CLONE_CLEAR_SIGHAND,
        .parent_tid = (uint64_t)&s->pid,
        .exit_signal = SIGCHLD,
        .stack = (uint64_t)stack,
        .stack_size = STACK_SIZE,
    };
    syscall4(NR_rt_sigprocmask, SIG_SETMASK, &all, &s->signals, SIGSET_SIZE);
    long result = clone_to(&how, sizeof how, be_child, s);
    syscall4(NR_rt_sigprocmask, SIG_SETMASK, &s->signals, 0, SIGSET_SIZE);
    return result < 0 ? -result : 0;
}

__attribute__((visibility("default")))
long release_spawn(struct spawn *s)
{
    __atomic_store_n(&s->patience, 0, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&s->state, __ATOMIC_SEQ_CST) != ASLEEP;
}

/* Whether it is of use here: it takes Linux 5.9 (close_range(2)), and no sandbox that forbids clone3(2). */
__attribute__((visibility("default")))
int can_spawn(void)
{
    return syscall3(NR_close_range, ~0u, 0, 0) == -EINVAL && syscall2(NR_clone3, 0, 0) == -EINVAL;
}

/* The child is to ring, if it is not born yet. */
__attribute__((visibility("default")))
void have_ring(struct spawn *s)
{
    __atomic_store_n(&s->rings, 1, __ATOMIC_SEQ_CST);
}

/* A child that is yet to be born ends at once. Returns the pid of one that is. */
__attribute__((visibility("default")))
long cancel_spawn(struct spawn *s)
{
    __atomic_store_n(&s->patience, CANCELED, __ATOMIC_SEQ_CST);
    return s->pid;
}
