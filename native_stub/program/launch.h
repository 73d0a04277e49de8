/* What lies between fork and exec on the way to a program: in the launcher (launch.c), and in a child that is not that
 * first (spawn.c). */
#ifndef VDSOTIME_LAUNCH_H
#define VDSOTIME_LAUNCH_H

#include <stdint.h>

#if defined(__x86_64__)
#include "arch/x86_64.h"
#elif defined(__aarch64__)
#include "arch/aarch64.h"
#else
#error "no launcher for this architecture yet"
#endif

/* linux/prctl.h, asm-generic/errno-base.h, asm-generic/signal.h */
#define PR_SET_PDEATHSIG 1
#define PR_GET_PDEATHSIG 2
#define PR_SET_NO_NEW_PRIVS 38
#define SECCOMP_SET_MODE_FILTER 1
#define SIGKILL 9
#define ENOENT 2
#define ENOTDIR 20
#define SIGSET_SIZE 8
#define EXIT_NO_PARENT 125
#define EXIT_NO_FILTER 255
#define SPINS 2000 /* some 50 microseconds */

/* What the child and its tracer tell each other: whether to wait, and whether it does. The tracer releases the child by
 * writing 0, and if it then finds it asleep, by a ptrace stop. Each writes before it reads what the other writes: a
 * release is not missed. */
enum state { NOT_BEGUN, AWAKE, ASLEEP };

/* struct sock_filter (seccomp(2)) */
struct instruction { uint16_t code; uint8_t if_true, if_false; uint32_t operand; };

static inline void exit_with(int status)
{
    for (;;)
        syscall1(NR_exit_group, status);
}

/* By a futex without a timeout, at which the filter does not stop. After a ptrace stop it is restarted, and looks at its
 * word again: the tracer need not touch registers. */
static inline void sleep_until_stopped(volatile uint64_t *patience)
{
    syscall4(NR_futex, (long)patience, 0 /* FUTEX_WAIT */, 1, 0);
}

/* The tracer is on its way: going to sleep and being woken would take longer than it does. (To yield
 * instead would be to wait for whoever else has work, a slice each time.) */
static inline void wait_for_tracer(volatile uint64_t *patience, volatile uint64_t *state)
{
    for (int i = 0; *patience && i < SPINS; i++)
        cpu_relax();
    while (*patience) {
        __atomic_store_n(state, ASLEEP, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(patience, __ATOMIC_SEQ_CST))
            sleep_until_stopped(patience);
    }
}

/* Whoever lacks CAP_SYS_ADMIN must first give up what set-user-ID files would give, which a program
 * traced by an ordinary user does not get anyway (execve(2)). Returns 0 where that is refused. */
static inline int install_filter(const struct instruction *filter, uint16_t length)
{
    struct { uint16_t length; const struct instruction *filter; } program = {length, filter};
    if (!syscall3(NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        return 1;
    syscall5(NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return !syscall3(NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

/* The first candidate that can be executed, as execvp(3) and subprocess do. Returns the errno if none can. */
static inline int execute(const char *const *candidates, long count, char *const *argv, char *const *envp)
{
    int first_errno = 0, last_errno = ENOENT;
    for (long i = 0; i < count; i++) {
        last_errno = -(int)syscall3(NR_execve, (long)candidates[i], (long)argv, (long)envp);
        if (!first_errno && last_errno != ENOENT && last_errno != ENOTDIR)
            first_errno = last_errno;
    }
    return first_errno ? first_errno : last_errno;
}

#endif
