/* The launcher: a static program between fork and the program that a test asked for, so that the
 * tracer can seize the process before the program starts.
 *
 *   launch PARENT FILTER UID GID GROUPS COUNT CANDIDATE... ARG0 ARG...
 *
 * installs FILTER (a seccomp filter's instructions in hexadecimal; here, as it takes its time, while
 * the tracer is on its way), waits until its tracer releases it, becomes GROUPS (numbers with commas), GID
 * and UID as subprocess does ("-": as it is), then executes the first CANDIDATE that can be executed,
 * as execvp(3) and subprocess do, with ARG0... as argv. Its exit status is the errno of execve
 * when none can, EXIT_IDENTITY and more when it cannot become what it should: 128 and errno.
 *
 *   launch PARENT
 *
 * is the waker: it does nothing but wait. A signal sent to it is a stop for the tracer, which so
 * wakes up from waitpid. When the time of its alarm has come, which the tracer writes while it is stopped, it sends
 * itself one.
 *
 * PARENT is the pid of the process that starts it. Neither form outlives that process.
 */
#include "launch.h"

#define SIGUSR1 10
#define CLOCK_MONOTONIC 1 /* linux/time.h */
#define TIMER_ABSTIME 1
#define MAX_FILTER 512
#define EXIT_IDENTITY 128
#define MAX_GROUPS 65536 /* NGROUPS_MAX, linux/limits.h */

__attribute__((used)) volatile uint64_t patience = 1;
__attribute__((used)) volatile uint64_t state;

/* By CLOCK_MONOTONIC; years ahead: none. */
__attribute__((used)) volatile struct { int64_t sec, nsec; } alarm_time = {INT32_MAX, 0};

static long next_number(const char **text)
{
    long n = 0;
    while (**text >= '0' && **text <= '9')
        n = n * 10 + (*(*text)++ - '0');
    if (**text == ',')
        (*text)++;
    return n;
}

static long number(const char *digits)
{
    return next_number(&digits);
}

/* An absolute sleep is called anew after a stop, and reads its memory again (hrtimer_nanosleep,
 * kernel/time/hrtimer.c). */
static void be_doorbell(void)
{
    syscall3(NR_close_range, 0, ~0u, 0);
    for (;;)
        if (!syscall4(NR_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, (long)&alarm_time, 0))
            syscall2(NR_kill, syscall0(NR_getpid), SIGUSR1);
}

static unsigned hexadecimal(char digit)
{
    return digit <= '9' ? digit - '0' : digit - 'a' + 10;
}

static int install_filter_of(const char *digits)
{
    static struct instruction filter[MAX_FILTER];
    unsigned char *bytes = (unsigned char *)filter;
    unsigned size = 0;

    for (; digits[0] && size < sizeof filter; digits += 2)
        bytes[size++] = hexadecimal(digits[0]) << 4 | hexadecimal(digits[1]);
    return install_filter(filter, size / sizeof(struct instruction));
}

static void check_identity(long result)
{
    if (result < 0)
        exit_with(EXIT_IDENTITY - result);
}

/* After the filter: as root it needs no PR_SET_NO_NEW_PRIVS, which would take their privilege from
 * the set-user-ID files that an ordinary user executes. */
static void change_identity(const char *uid, const char *gid, const char *groups)
{
    static uint32_t list[MAX_GROUPS];
    long id, count = 0;

    if (*groups != '-') {
        while (*groups && count < MAX_GROUPS)
            list[count++] = next_number(&groups);
        check_identity(syscall2(NR_setgroups, count, list));
    }
    if (*gid != '-') {
        id = number(gid);
        check_identity(syscall2(NR_setregid, id, id));
    }
    if (*uid != '-') {
        id = number(uid);
        check_identity(syscall2(NR_setreuid, id, id));
    }
}

__attribute__((used)) void start(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)&stack[1];
    char **envp = argv + argc + 1;
    int parent_death_signal = 0;

    state = AWAKE;
    if (argc < 2)
        exit_with(EXIT_NO_PARENT);
    /* Whoever starts a program may have given it a parent-death signal (prctl(2)): it gets it back. */
    syscall2(NR_prctl, PR_GET_PDEATHSIG, (long)&parent_death_signal);
    syscall2(NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
    long parent = syscall0(NR_getppid); /* 0: outside of this pid namespace */
    if (parent && parent != number(argv[1]))
        exit_with(EXIT_NO_PARENT);
    if (argc == 2)
        be_doorbell();
    int is_filtered = install_filter_of(argv[2]);

    wait_for_tracer(&patience, &state);

    if (!is_filtered)
        exit_with(EXIT_NO_FILTER);
    syscall2(NR_prctl, PR_SET_PDEATHSIG, parent_death_signal);
    change_identity(argv[3], argv[4], argv[5]);
    long count = number(argv[6]);
    char **candidates = argv + 7;
    exit_with(execute((const char *const *)candidates, count, candidates + count, envp));
}

START_WITH_STACK(start)
