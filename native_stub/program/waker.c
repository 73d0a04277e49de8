/* The waker: a static program that does nothing but wait, `waker PARENT`. A signal sent to it is a stop for the tracer,
 * which so wakes up from waitpid. When the time of its alarm has come, which the tracer writes while it is stopped, it
 * sends itself one. PARENT is the pid of the process that starts it, which it does not outlive.
 */
#include <stdint.h>

#if defined(__x86_64__)
#include "arch/x86_64.h"
#elif defined(__aarch64__)
#include "arch/aarch64.h"
#else
#error "no waker for this architecture yet"
#endif

/* linux/prctl.h, asm-generic/signal.h, linux/time.h */
#define PR_SET_PDEATHSIG 1
#define SIGKILL 9
#define SIGUSR1 10
#define CLOCK_MONOTONIC 1
#define TIMER_ABSTIME 1
#define EXIT_NO_PARENT 125

/* By CLOCK_MONOTONIC; years ahead: none. */
__attribute__((used)) volatile struct { int64_t sec, nsec; } alarm_time = {INT32_MAX, 0};

static long number(const char *digits)
{
    long n = 0;
    while (*digits >= '0' && *digits <= '9')
        n = n * 10 + (*digits++ - '0');
    return n;
}

__attribute__((used)) void start(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)&stack[1];

    syscall2(NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
    long parent = syscall0(NR_getppid); /* 0: outside of this pid namespace */
    if (argc != 2 || (parent && parent != number(argv[1])))
        for (;;)
            syscall1(NR_exit_group, EXIT_NO_PARENT);
    syscall3(NR_close_range, 0, ~0u, 0);
    /* An absolute sleep is called anew after a stop, and reads its memory again (hrtimer_nanosleep,
     * kernel/time/hrtimer.c). */
    for (;;)
        if (!syscall4(NR_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, (long)&alarm_time, 0))
            syscall2(NR_kill, syscall0(NR_getpid), SIGUSR1);
}

START_WITH_STACK(start)
