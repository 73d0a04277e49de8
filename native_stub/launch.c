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
 * is the doorbell: it does nothing but wait. A signal sent to it is a stop for the tracer, which so
 * wakes up from waitpid. When the time of its alarm has come, which the tracer writes while it is stopped, it sends
 * itself one.
 *
 * PARENT is the pid of the process that starts it. Neither form outlives that process.
 */
#include <stddef.h>
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
#define SIGKILL 9
#define SIGUSR1 10
#define CLOCK_MONOTONIC 1 /* linux/time.h */
#define TIMER_ABSTIME 1
#define ENOENT 2
#define ENOTDIR 20
#define SIGSET_SIZE 8
#define PR_SET_NO_NEW_PRIVS 38
#define SECCOMP_SET_MODE_FILTER 1
#define MAX_FILTER 512
#define EXIT_IDENTITY 128
#define EXIT_NO_FILTER 255
#define SPINS 2000 /* some 50 microseconds */
#define MAX_GROUPS 65536 /* NGROUPS_MAX, linux/limits.h */

/* Whether to wait for the tracer; it releases the launcher by writing 0, and if it then finds it asleep, by a ptrace
 * stop. Each writes before it reads what the other writes: a release is not missed. */
__attribute__((used)) volatile uint64_t patience = 1;
__attribute__((used)) volatile enum : uint64_t { NOT_BEGUN, AWAKE, ASLEEP } state;

/* By CLOCK_MONOTONIC; years ahead: none. */
__attribute__((used)) volatile struct { int64_t sec, nsec; } alarm_time = {INT32_MAX, 0};

/* struct sock_filter (seccomp(2)) */
struct instruction { uint16_t code; uint8_t if_true, if_false; uint32_t operand; };

static void exit_with(int status)
{
    for (;;)
        syscall1(NR_exit_group, status);
}

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

/* By rt_sigtimedwait for no signal at all: unlike pause it is not restarted after a ptrace stop (signal(7)), so the
 * tracer need not touch registers. A time to wait would stop it at its own filter, and where calls rewind early that
 * does anyway: there by a futex, which looks at its word again when it is restarted. */
static void sleep_until_stopped(void)
{
#ifdef REWINDS_EARLY
    syscall4(NR_futex, (long)&patience, 0 /* FUTEX_WAIT */, 1, 0);
#else
    static const uint64_t no_signals;
    syscall4(NR_rt_sigtimedwait, (long)&no_signals, 0, 0, SIGSET_SIZE);
#endif
}

/* The tracer is on its way: going to sleep and being woken would take longer than it does. (To yield
 * instead would be to wait for whoever else has work, a slice each time.) */
static void wait_for_tracer(void)
{
    for (int i = 0; patience && i < SPINS; i++)
        cpu_relax();
    while (patience) {
        __atomic_store_n(&state, ASLEEP, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&patience, __ATOMIC_SEQ_CST))
            sleep_until_stopped();
    }
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

/* Whoever lacks CAP_SYS_ADMIN must first give up what set-user-ID files would give, which a program
 * traced by an ordinary user does not get anyway (execve(2)). */
static void install_filter(const char *digits)
{
    static struct instruction filter[MAX_FILTER];
    struct { uint16_t length; struct instruction *filter; } program = {0, filter};
    unsigned char *bytes = (unsigned char *)filter;
    unsigned size = 0;

    for (; digits[0] && size < sizeof filter; digits += 2)
        bytes[size++] = hexadecimal(digits[0]) << 4 | hexadecimal(digits[1]);
    program.length = size / sizeof(struct instruction);
    if (!syscall3(NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        return;
    syscall5(NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall3(NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        exit_with(EXIT_NO_FILTER);
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
        exit_with(125);
    /* Whoever starts a program may have given it a parent-death signal (prctl(2)): it gets it back. */
    syscall2(NR_prctl, PR_GET_PDEATHSIG, (long)&parent_death_signal);
    syscall2(NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
    long parent = syscall0(NR_getppid); /* 0: outside of this pid namespace */
    if (parent && parent != number(argv[1]))
        exit_with(125);
    if (argc == 2)
        be_doorbell();
    install_filter(argv[2]);

    wait_for_tracer();

    syscall2(NR_prctl, PR_SET_PDEATHSIG, parent_death_signal);
    change_identity(argv[3], argv[4], argv[5]);
    long count = number(argv[6]);
    char **candidates = argv + 7;
    int first_errno = 0, last_errno = ENOENT;
    for (long i = 0; i < count; i++) {
        last_errno = -(int)syscall3(NR_execve, (long)candidates[i], (long)(candidates + count), (long)envp);
        if (!first_errno && last_errno != ENOENT && last_errno != ENOTDIR)
            first_errno = last_errno;
    }
    exit_with(first_errno ? first_errno : last_errno);
}

START_WITH_STACK(start)
