// run: start=1970-01-01T00:00:00Z on=i386,i386-dynamic bare=fails
// run: start=1969-12-31T23:59:58.999999999Z on=i386 bare=fails
// run: start=2038-01-19T03:14:08.123456789Z on=i386 bare=fails
// run: start=2106-02-07T06:28:17Z on=i386 bare=fails
/* The system calls of a 32-bit program, by int 0x80 and by the kernel's __kernel_vsyscall: those with
 * 32-bit times, which cut them off (put_old_timespec32, kernel/time/time.c), and those with 64-bit
 * ones, in which the upper half of the nanoseconds is padding (get_timespec64). */
#include "i386.h"
#include "vdso.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>

#define WAIT_NS 20000000LL
#define LONGEST_NS 5000000000LL
#define PADDING 0x7eadbeef00000000
#define NOWHERE 8

/* Where results go, with what must stay untouched behind each. */
static union {
    struct narrow narrow;
    struct wide wide;
    unsigned char bytes[64];
} result;

static void clear(void)
{
    memset(&result, 0xee, sizeof result);
}

static void check_untouched_from(unsigned offset)
{
    for (unsigned i = offset; i < sizeof result; i++)
        CHECK_EQUAL(result.bytes[i], 0xee);
}

static void check_values(int64_t wall_ns)
{
    struct narrow zone;
    int64_t sec = wall_ns / NSEC_PER_SEC - (wall_ns % NSEC_PER_SEC < 0);
    int32_t cut = (int32_t)sec;
    long nsec = wall_ns - sec * NSEC_PER_SEC;

    clear();
    CHECK_EQUAL(RAW(CLOCK_GETTIME, CLOCK_REALTIME, &result), 0);
    CHECK(result.narrow.sec == cut && result.narrow.nsec == nsec);
    check_untouched_from(sizeof result.narrow);
    clear();
    CHECK_EQUAL(RAW(CLOCK_GETTIME64, CLOCK_REALTIME, &result), 0);
    CHECK(result.wide.sec == sec && result.wide.nsec == nsec);
    check_untouched_from(sizeof result.wide);
    clear();
    CHECK_EQUAL(RAW(GETTIMEOFDAY, &result, &zone), 0);
    CHECK(result.narrow.sec == cut && result.narrow.nsec == nsec / 1000);
    check_untouched_from(sizeof result.narrow);
    CHECK_EQUAL(RAW(GETTIMEOFDAY, 0, 0), 0);
    clear();
    CHECK_EQUAL(RAW(TIME, &result), cut);
    CHECK_EQUAL(result.narrow.sec, cut);
    check_untouched_from(sizeof(int32_t));
    CHECK_EQUAL(RAW(TIME, 0), cut);
}

static int64_t monotonic_ns(void)
{
    struct wide now;
    CHECK_EQUAL(RAW(CLOCK_GETTIME64, CLOCK_MONOTONIC, &now), 0);
    return now.sec * NSEC_PER_SEC + now.nsec;
}

static void check_monotonic(void)
{
    int64_t before_ns = monotonic_ns();
    struct narrow now;
    struct wide boot;
    struct sysinfo info;

    CHECK_EQUAL(RAW(CLOCK_GETTIME, CLOCK_MONOTONIC, &now), 0);
    int64_t after_ns = monotonic_ns();
    CHECK(before_ns <= after_ns);
    CHECK((uint32_t)(now.sec - (int32_t)(before_ns / NSEC_PER_SEC)) <= 60);
    CHECK(now.nsec >= 0 && now.nsec < NSEC_PER_SEC);
    CHECK_EQUAL(RAW(SYSINFO, &info), 0);
    CHECK_EQUAL(RAW(CLOCK_GETTIME64, CLOCK_BOOTTIME, &boot), 0);
    CHECK((uint32_t)((int32_t)boot.sec + 1 - info.uptime) <= 60);
    CHECK_EQUAL(RAW(CLOCK_GETTIME, CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    CHECK(now.sec >= 0 && now.sec < 60);
}

static void check_refusals(void)
{
    static const int calls[] = {CLOCK_GETTIME, CLOCK_GETTIME64};
    clear();
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQUAL(RAW(calls[i], 1000, &result), -EINVAL);
        CHECK_EQUAL(RAW(calls[i], -1, &result), -EINVAL);
        CHECK_EQUAL(RAW(calls[i], CLOCK_REALTIME, 0), -EFAULT);
        CHECK_EQUAL(RAW(calls[i], CLOCK_REALTIME, NOWHERE), -EFAULT);
    }
    CHECK_EQUAL(RAW(TIME, NOWHERE), -EFAULT);
    CHECK_EQUAL(RAW(GETTIMEOFDAY, NOWHERE, 0), -EFAULT);
    CHECK_EQUAL(RAW(GETTIMEOFDAY, 0, NOWHERE), -EFAULT);
    CHECK_EQUAL(RAW(SYSINFO, NOWHERE), -EFAULT);
    CHECK_EQUAL(RAW(TIMES, NOWHERE), -EFAULT);
    CHECK_EQUAL(RAW(CLOCK_NANOSLEEP, CLOCK_REALTIME, TIMER_ABSTIME, NOWHERE), -EFAULT);
    CHECK_EQUAL(RAW(CLOCK_NANOSLEEP64, CLOCK_REALTIME, TIMER_ABSTIME, NOWHERE), -EFAULT);
    check_untouched_from(0);
}

/* What root may do is i386_set_clock.c's. */
static void check_setting_is_refused(void)
{
    struct narrow odd = {0, 1000000}, when = {77, 0};
    struct wide wide_when = {77, 0};
    CHECK_EQUAL(RAW(SETTIMEOFDAY, &odd, 0), -EINVAL);
    CHECK_EQUAL(RAW(SETTIMEOFDAY, NOWHERE, 0), -EFAULT);
    CHECK_EQUAL(RAW(STIME, NOWHERE), -EFAULT);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(geteuid() != 0 || setuid(65534) == 0);
        CHECK_EQUAL(RAW(SETTIMEOFDAY, &when, 0), -EPERM);
        CHECK_EQUAL(RAW(STIME, &when), -EPERM);
        CHECK_EQUAL(RAW(CLOCK_SETTIME, CLOCK_REALTIME, &when), -EPERM);
        CHECK_EQUAL(RAW(CLOCK_SETTIME64, CLOCK_REALTIME, &wide_when), -EPERM);
        _exit(0);
    }
    check_child(pid);
}

/* Deadlines, `WAIT_NS` from now on a clock, in both widths; each ends when it has passed. */

static struct { struct narrow interval, value; } narrow;
static struct { struct wide interval, value; } wide;
static int64_t until_ns;

/* Sets all to that deadline; returns the time before on the monotonic clock. */
static int64_t start(clockid_t id)
{
    struct wide now;
    int64_t from_ns = monotonic_ns();
    CHECK_EQUAL(RAW(CLOCK_GETTIME64, id, &now), 0);
    until_ns = now.sec * NSEC_PER_SEC + now.nsec + WAIT_NS;
    narrow.value = (struct narrow){until_ns / NSEC_PER_SEC, until_ns % NSEC_PER_SEC};
    wide.interval.nsec = PADDING;
    wide.value = (struct wide){until_ns / NSEC_PER_SEC, PADDING | until_ns % NSEC_PER_SEC};
    return from_ns;
}

static void end(const char *what, int64_t from_ns)
{
    int64_t passed_ns = monotonic_ns() - from_ns;
    if (passed_ns < WAIT_NS || passed_ns > LONGEST_NS) {
        dprintf(2, "%s took %lld ns\n", what, (long long)passed_ns);
        _exit(1);
    }
}

static void wait_for_timerfd(clockid_t id, int call, const void *spec)
{
    uint64_t count = 0;
    int fd = timerfd_create(id, TFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(RAW(call, fd, TFD_TIMER_ABSTIME, spec, 0), 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
    close(fd);
}

static void wait_for_timer(clockid_t id, int call, const void *spec)
{
    int timer, number;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK_EQUAL(RAW(TIMER_CREATE, id, 0, &timer), 0);
    CHECK_EQUAL(RAW(call, timer, TIMER_ABSTIME, spec, 0), 0);
    CHECK(sigwait(&set, &number) == 0 && number == SIGALRM);
}

static void check_waits(clockid_t id)
{
    /* FUTEX_WAIT_BITSET_PRIVATE, FUTEX_CLOCK_REALTIME */
    int word = 0, bitset = 9 | 128 | (id == CLOCK_REALTIME ? 256 : 0);
    start(id);
    for (int is_wide = 0; is_wide < 2; is_wide++) {
        const void *value = is_wide ? (void *)&wide.value : &narrow.value;
        const void *spec = is_wide ? (void *)&wide : &narrow;
        if (until_ns < 0 || (!is_wide && wide.value.sec != narrow.value.sec))
            continue; /* what the kernel refuses, and what cannot be said */

        int64_t from_ns = start(id);
        CHECK_EQUAL(RAW(is_wide ? CLOCK_NANOSLEEP64 : CLOCK_NANOSLEEP, id, TIMER_ABSTIME, value), 0);
        end("clock_nanosleep", from_ns);
        from_ns = start(id);
        CHECK_EQUAL(RAW(is_wide ? FUTEX64 : FUTEX, &word, bitset, 0, value, 0, -1), -ETIMEDOUT);
        end("FUTEX_WAIT_BITSET", from_ns);
        from_ns = start(id);
        wait_for_timerfd(id, is_wide ? TIMERFD_SETTIME64 : TIMERFD_SETTIME, spec);
        end("timerfd_settime", from_ns);
        from_ns = start(id);
        wait_for_timer(id, is_wide ? TIMER_SETTIME64 : TIMER_SETTIME, spec);
        end("timer_settime", from_ns);
    }
}

/* The kernel's own int 0x80 instruction with a stack pointer that leads nowhere: the call is answered,
 * and the program dies of what comes next. */
static void call_without_a_stack(int64_t wall_ns)
{
    struct wide *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const unsigned char *at = kernel_vsyscall();
    int status;
    CHECK(shared != MAP_FAILED);
    while (at[0] != 0xcd || at[1] != 0x80)
        at++;
    pid_t pid = fork();
    if (pid == 0) {
        __asm__ volatile("movl $64, %%esp; jmp *%0"
                         : : "S"(at), "a"(CLOCK_GETTIME64), "b"(CLOCK_REALTIME), "c"(shared));
        __builtin_unreachable();
    }
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    CHECK_EQUAL(shared->sec * NSEC_PER_SEC + shared->nsec, wall_ns);
}

int main(int argc, char **argv)
{
    const void *ways[] = {int80, kernel_vsyscall()};
    long ticks[2];
    CHECK(argc == 3);
    check_wall(start_ns(argv));
    for (int i = 0; i < 2; i++) {
        way = ways[i];
        check_values(start_ns(argv));
        check_monotonic();
        check_refusals();
        check_setting_is_refused();
        check_waits(CLOCK_REALTIME);
        check_waits(CLOCK_MONOTONIC);
        ticks[i] = RAW(TIMES, 0);
    }
    call_without_a_stack(start_ns(argv));
    check_move(argv);
    for (int i = 0; i < 2; i++) {
        way = ways[i];
        check_values(strtoll(argv[2], NULL, 10));
        check_waits(CLOCK_MONOTONIC);
        CHECK((uint32_t)(RAW(TIMES, 0) - ticks[i] - 3600 * 100) < 60 * 100);
    }
    return success();
}
