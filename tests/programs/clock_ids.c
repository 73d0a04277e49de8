// run: start=1970-01-01T00:00:00Z on=static,static-pie,dynamic,i386 bare=fails
// run: start=2038-01-19T03:14:07.123456789Z bare=fails
// run: start=1969-12-31T23:59:59.999999999Z bare=fails
// run: start=2106-02-07T06:28:16Z on=static,i386 bare=fails
/* Every clock id, through libc and through the vDSO's own symbol, between two system calls, which are
 * answered from the same clock: the wall ids read it by either way, the monotonic ones never go back
 * from one way to the other and flow on from the host's own value, CPU time is real, and an id that
 * the host refuses is refused with the same errno. */
#include "vdso.h"
#include <limits.h>
#include <signal.h>
#include <sys/timex.h>

typedef long clock_gettime_fn(clockid_t, struct timespec *);

static long (*vdso_clock_gettime)(clockid_t, struct wide_timespec *);
static int64_t expected_ns, tai_ns;

static long by_libc(clockid_t id, struct timespec *ts)
{
    return clock_gettime(id, ts) == 0 ? 0 : -errno;
}

static long by_vdso(clockid_t id, struct timespec *ts)
{
    if (!ts)
        return vdso_clock_gettime(id, NULL);
    struct wide_timespec wide = {ts->tv_sec, ts->tv_nsec};
    long result = vdso_clock_gettime(id, &wide);
    *ts = (struct timespec){.tv_sec = wide.sec, .tv_nsec = wide.nsec};
    return result;
}

static long by_syscall(clockid_t id, struct timespec *ts)
{
    return syscall(SYS_clock_gettime, id, ts) == 0 ? 0 : -errno;
}

/* What the host says of its own: /proc/uptime, in hundredths of a second, is no call about time. */
static int64_t host_uptime_ns(void)
{
    long seconds, hundredths;
    FILE *file = fopen("/proc/uptime", "r");
    CHECK(file && fscanf(file, "%ld.%2ld", &seconds, &hundredths) == 2);
    fclose(file);
    return seconds * NSEC_PER_SEC + hundredths * (NSEC_PER_SEC / 100);
}

/* `read_ns` was read just now. A busy machine may take its time from one reading to the next, so it is
 * bounded by a reading of the clock after that of the host. */
static void check_uptime(int64_t read_ns)
{
    int64_t host_ns = host_uptime_ns();
    CHECK(read_ns <= host_ns + NSEC_PER_SEC / 50);
    CHECK(clock_ns(CLOCK_BOOTTIME) >= host_ns - NSEC_PER_SEC / 50);
}

/* Alarm clocks need a real-time-clock device (timer_create(2)); these need nothing. */
static int is_on_every_host(clockid_t id)
{
    return (id >= CLOCK_REALTIME && id <= CLOCK_BOOTTIME) || id == CLOCK_TAI;
}

static void check_id(clockid_t id, clock_gettime_fn *read)
{
    struct timespec before = {-1, -1}, ts = {-1, -1}, after;
    long refused = by_syscall(id, &before);
    CHECK_EQUAL(read(id, &ts), refused);
    if (refused) {
        CHECK(!is_on_every_host(id));
        CHECK(before.tv_sec == -1 && before.tv_nsec == -1);
        CHECK(ts.tv_sec == -1 && ts.tv_nsec == -1);
        return;
    }
    CHECK(by_syscall(id, &after) == 0);
    CHECK(before.tv_nsec >= 0 && before.tv_nsec < NSEC_PER_SEC);
    CHECK(ts.tv_nsec >= 0 && ts.tv_nsec < NSEC_PER_SEC);
    CHECK(in_ns(before) <= in_ns(ts) && in_ns(ts) <= in_ns(after));
    switch (id) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
        CHECK_EQUAL(in_ns(ts), expected_ns);
        CHECK_EQUAL(in_ns(after), expected_ns);
        break;
    case CLOCK_TAI:
        CHECK_EQUAL(in_ns(ts), expected_ns + tai_ns);
        CHECK_EQUAL(in_ns(after), expected_ns + tai_ns);
        break;
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
        check_uptime(in_ns(ts));
        break;
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
    vdso_clock_gettime = find_symbol(&image, VDSO_CLOCK_GETTIME);
    CHECK(vdso_clock_gettime);
    if (sizeof(long) == 8 && find_symbol(&image, "getcpu")) /* other images never had names without a prefix */
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
