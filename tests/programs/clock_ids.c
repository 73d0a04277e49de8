// run: start=1970-01-01T00:00:00Z on=static,static-pie,dynamic bare=fails
// run: start=2038-01-19T03:14:07.123456789Z bare=fails
// run: start=1969-12-31T23:59:59.999999999Z bare=fails
// run: start=2106-02-07T06:28:16Z bare=fails
/* Every clock id, through libc and through the vDSO's own symbol, against what the system call
 * says: the wall ids read the clock, the monotonic ones flow on from the host's own value, CPU time
 * is real, and an id that the host refuses is refused with the same errno. */
#include "vdso.h"
#include <limits.h>
#include <signal.h>
#include <sys/timex.h>

typedef long clock_gettime_fn(clockid_t, struct timespec *);

static clock_gettime_fn *vdso_clock_gettime;
static int64_t expected_ns, tai_ns;

static long by_libc(clockid_t id, struct timespec *ts)
{
    return clock_gettime(id, ts) == 0 ? 0 : -errno;
}

static long by_vdso(clockid_t id, struct timespec *ts)
{
    return vdso_clock_gettime(id, ts);
}

static long by_syscall(clockid_t id, struct timespec *ts)
{
    return syscall(SYS_clock_gettime, id, ts) == 0 ? 0 : -errno;
}

static void check_id(clockid_t id, clock_gettime_fn *read)
{
    struct timespec before, ts = {-1, -1}, after;
    long refused = by_syscall(id, &before);
    CHECK_EQUAL(read(id, &ts), refused);
    if (refused) {
        CHECK_EQUAL(ts.tv_sec, -1);
        return;
    }
    CHECK(by_syscall(id, &after) == 0);
    CHECK(ts.tv_nsec >= 0 && ts.tv_nsec < NSEC_PER_SEC);
    switch (id) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
        CHECK_EQUAL(in_ns(ts), expected_ns);
        break;
    case CLOCK_TAI:
        CHECK_EQUAL(in_ns(ts), expected_ns + tai_ns);
        break;
    case CLOCK_MONOTONIC_COARSE: /* as exact as its line, where the host's lags by up to a tick */
        CHECK(by_syscall(CLOCK_MONOTONIC, &after) == 0);
        CHECK(in_ns(before) <= in_ns(ts) && in_ns(ts) <= in_ns(after));
        break;
    case CLOCK_MONOTONIC_RAW: /* not slewed by NTP: apart from its line by up to 0.5 per mille */
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
        CHECK(in_ns(ts) > 0);
        CHECK(in_ns(before) - NSEC_PER_SEC / 100 <= in_ns(ts));
        CHECK(in_ns(ts) <= in_ns(after) + NSEC_PER_SEC / 100);
        break;
    default:
        CHECK(in_ns(before) <= in_ns(ts) && in_ns(ts) <= in_ns(after));
    }
}

static int status_of_null_read(clock_gettime_fn *read, clockid_t id)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(read(id, NULL) == -EFAULT ? EFAULT : 1);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    static const clockid_t invalid[] = {12, 13, 16, 63, 64, 1000, INT_MAX, -1, -2, -5, INT_MIN};
    clock_gettime_fn *ways[] = {by_libc, by_vdso};
    struct image image = program_image();
    struct timex timex = {0};
    clockid_t own_cpu;

    CHECK(argc == 3);
    expected_ns = start_ns(argv);
    CHECK(adjtimex(&timex) >= 0);
    tai_ns = timex.tai * NSEC_PER_SEC;
    vdso_clock_gettime = (clock_gettime_fn *)find_symbol(&image, "__vdso_clock_gettime");
    CHECK(vdso_clock_gettime);
    CHECK(find_symbol(&image, "clock_gettime") == (void *)vdso_clock_gettime);
    CHECK(clock_getcpuclockid(getpid(), &own_cpu) == 0);

    for (unsigned way = 0; way < 2; way++) {
        for (clockid_t id = 0; id < 12; id++)
            check_id(id, ways[way]);
        for (unsigned i = 0; i < sizeof invalid / sizeof *invalid; i++)
            check_id(invalid[i], ways[way]);
        check_id(own_cpu, ways[way]);
        /* The kernel's vDSO writes through the pointer, its system call looks first. */
        CHECK_EQUAL(status_of_null_read(ways[way], CLOCK_PROCESS_CPUTIME_ID), EFAULT);
        CHECK_EQUAL(ways[way](1000, NULL), -EINVAL);
    }
    CHECK_EQUAL(status_of_null_read(by_vdso, CLOCK_REALTIME), -SIGSEGV);
    check_wall(expected_ns);
    return success();
}
