// run: start=1970-01-01T00:00:00Z as=root bare=never
/* Root sets the clock: its own, in every way there is, and at once for its other readers. Whoever may
 * not gets EPERM, after EINVAL and EFAULT as from the kernel. It never runs bare: the host's clock
 * would move. */
#include "check.h"
#include <limits.h>
#include <sched.h>
#include <sys/timex.h>

static void set(time_t seconds, long nanoseconds, int expected)
{
    struct timespec ts = {seconds, nanoseconds};
    errno = 0;
    CHECK_EQUAL(syscall(SYS_clock_settime, CLOCK_REALTIME, &ts) == 0 ? 0 : errno, expected);
}

static void check_wall_s(time_t seconds)
{
    struct timespec ts;
    CHECK_EQUAL(clock_ns(CLOCK_REALTIME), seconds * NSEC_PER_SEC);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), seconds * NSEC_PER_SEC);
}

static void in_child(void (*run)(void))
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        run();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void as_nobody(void)
{
    struct timeval tv = {77, 0};
    CHECK(setuid(65534) == 0);
    set(77, 0, EPERM);
    set(77, NSEC_PER_SEC, EINVAL);
    set(-1, 0, EINVAL);
    errno = 0;
    CHECK(syscall(SYS_settimeofday, &tv, NULL) == -1 && errno == EPERM);
    struct timex tx = {.modes = ADJ_SETOFFSET};
    errno = 0;
    CHECK(syscall(SYS_adjtimex, &tx) == -1 && errno == EPERM);
    tx.modes = 0;
    CHECK(syscall(SYS_adjtimex, &tx) >= 0);
}

static void in_user_namespace(void)
{
    CHECK(unshare(CLONE_NEWUSER) == 0);
    set(77, 0, EPERM);
}

int main(int argc, char **argv)
{
    struct timeval tv = {3000000000, 5};
    struct timezone tz = {60, 0}, own;
    struct timespec ts = {1, 0};
    int64_t monotonic_ns = clock_ns(CLOCK_MONOTONIC);
    (void)argv;

    CHECK(argc == 3);
    set(1000, 0, 0);
    check_wall_s(1000);
    set(500, 0, 0);
    check_wall_s(500);
    CHECK(syscall(SYS_settimeofday, &tv, NULL) == 0);
    CHECK_EQUAL(clock_ns(CLOCK_REALTIME), 3000000000 * NSEC_PER_SEC + 5000);
    set(2000, 0, 0);

    set(77, -1, EINVAL);
    set(77, NSEC_PER_SEC, EINVAL);
    set(-1, 0, EINVAL);
    set(INT64_MAX, 0, EINVAL);
    tv.tv_usec = 1000000;
    errno = 0;
    CHECK(syscall(SYS_settimeofday, &tv, NULL) == -1 && errno == EINVAL);
    errno = 0;
    CHECK(syscall(SYS_clock_settime, CLOCK_REALTIME, (void *)8) == -1 && errno == EFAULT);
    errno = 0;
    CHECK(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &ts) == -1 && errno == EINVAL);
    in_child(as_nobody);
    in_child(in_user_namespace);
    check_wall_s(2000);

    errno = 0;
    CHECK(syscall(SYS_settimeofday, NULL, (void *)8) == -1 && errno == EFAULT);
    tv.tv_usec = 0;
    errno = 0;
    CHECK(syscall(SYS_settimeofday, &tv, (void *)8) == -1 && errno == EFAULT);
    tz.tz_minuteswest = 16 * 60;
    errno = 0;
    CHECK(syscall(SYS_settimeofday, NULL, &tz) == -1 && errno == EINVAL);
    tz.tz_minuteswest = 60;

    /* The timezone is the host's; a program on a clock of its own does not set it. */
    CHECK(syscall(SYS_settimeofday, NULL, &tz) == 0);
    CHECK(syscall(SYS_gettimeofday, NULL, &own) == 0 && own.tz_minuteswest != 60);

    struct timex tx = {.modes = 0};
    CHECK(syscall(SYS_adjtimex, &tx) >= 0);
    CHECK_EQUAL(tx.time.tv_sec, 2000);
    CHECK(tx.tick > 0 || tx.precision > 0);
    tx = (struct timex){.modes = ADJ_SETOFFSET, .time = {100, 250000}};
    CHECK(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &tx) >= 0);
    CHECK_EQUAL(clock_ns(CLOCK_REALTIME), 2100 * NSEC_PER_SEC + 250000000);
    tx = (struct timex){.modes = ADJ_SETOFFSET | ADJ_NANO, .time = {-101, 750000000}};
    CHECK(syscall(SYS_adjtimex, &tx) >= 0);
    check_wall_s(2000);
    tx = (struct timex){.modes = ADJ_OFFSET_SINGLESHOT, .offset = 3000000};
    CHECK(syscall(SYS_adjtimex, &tx) >= 0);
    check_wall_s(2003);
    tx = (struct timex){.modes = ADJ_OFFSET_SINGLESHOT, .offset = LONG_MAX}; /* beyond all years */
    errno = 0;
    CHECK(syscall(SYS_adjtimex, &tx) == -1 && errno == EINVAL);
    check_wall_s(2003);
    tx.modes = ADJ_OFFSET_SS_READ;
    CHECK(syscall(SYS_adjtimex, &tx) >= 0);
    errno = 0;
    CHECK(syscall(SYS_adjtimex, (void *)8) == -1 && errno == EFAULT);

    int64_t passed_ns = clock_ns(CLOCK_MONOTONIC) - monotonic_ns;
    CHECK(passed_ns >= 0 && passed_ns < 60 * NSEC_PER_SEC);
    puts("EXIT-SUCCESS");
    return 0;
}
