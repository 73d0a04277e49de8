// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
// run: start=2106-02-07T06:28:16.123456789Z bare=fails
// run: start=1969-12-31T23:59:59.999999999Z bare=fails
/* Past the vDSO: the system calls themselves, answered from the clock with the kernel's own errors.
 * A failed call leaves its memory alone. */
#include "check.h"
#include <sys/mman.h>

static long get(long id, void *ts)
{
    return syscall(SYS_clock_gettime, id, ts);
}

static void check_values(int64_t expected_ns)
{
    struct timespec ts = {-1, -1};
    struct timeval tv = {-1, -1};
    struct timezone tz = {-1, -1}, own = {-1, -1};
    int64_t seconds = (expected_ns - (expected_ns % NSEC_PER_SEC + NSEC_PER_SEC) % NSEC_PER_SEC) / NSEC_PER_SEC;
    time_t stored __attribute__((unused)) = -2;

    CHECK(get(CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), expected_ns);
    CHECK(get(CLOCK_REALTIME_COARSE, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), expected_ns);

    int64_t before = clock_ns(CLOCK_MONOTONIC);
    CHECK(get(CLOCK_MONOTONIC, &ts) == 0);
    CHECK(before <= in_ns(ts) && in_ns(ts) <= clock_ns(CLOCK_MONOTONIC));

    CHECK(syscall(SYS_gettimeofday, &tv, &tz) == 0);
    CHECK_EQUAL(tv.tv_sec, seconds);
    CHECK_EQUAL(tv.tv_usec, (expected_ns - seconds * NSEC_PER_SEC) / 1000);
    CHECK(syscall(SYS_gettimeofday, NULL, &own) == 0);
    CHECK(tz.tz_minuteswest == own.tz_minuteswest && tz.tz_dsttime == own.tz_dsttime);
    CHECK(syscall(SYS_gettimeofday, NULL, NULL) == 0);

#ifdef SYS_time
    errno = 0;
    CHECK_EQUAL(syscall(SYS_time, &stored), seconds);
    CHECK_EQUAL(stored, seconds);
#endif
}

static void check_refused(long id)
{
    struct timespec ts = {-1, -1};
    errno = 0;
    CHECK(get(id, &ts) == -1 && errno == EINVAL);
    CHECK(ts.tv_sec == -1 && ts.tv_nsec == -1);
}

/* CPU time is the kernel's to tell, by the stub as by the call. */
static void check_cpu_time(void)
{
    struct timespec ts;
    for (volatile int i = 0; i < 1000000; i++)
        continue;
    CHECK(get(CLOCK_PROCESS_CPUTIME_ID, &ts) == 0);
    CHECK(in_ns(ts) > 0 && in_ns(ts) < 60 * NSEC_PER_SEC);
    CHECK(get(CLOCK_THREAD_CPUTIME_ID, &ts) == 0);
    CHECK(in_ns(ts) > 0 && in_ns(ts) < 60 * NSEC_PER_SEC);
}

static void check_fault(void *p)
{
    errno = 0;
    CHECK(get(CLOCK_REALTIME, p) == -1 && errno == EFAULT);
    errno = 0;
    CHECK(syscall(SYS_gettimeofday, p, NULL) == -1 && errno == EFAULT);
#ifdef SYS_time
    errno = 0;
    CHECK(syscall(SYS_time, p) == -1 && errno == EFAULT);
#endif
}

static void check_pointers(int64_t expected_ns)
{
    long size = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 3 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);

    struct timespec *across = (struct timespec *)(pages + size - 8);
    CHECK(get(CLOCK_REALTIME, across) == 0);
    CHECK_EQUAL(in_ns(*across), expected_ns);

    CHECK(mprotect(pages + size, size, PROT_READ) == 0);
    CHECK(munmap(pages + 2 * size, size) == 0);
    check_fault(pages + size);
    check_fault(pages + 2 * size);
    errno = 0;
    CHECK(get(CLOCK_REALTIME, pages + size - 8) == -1 && errno == EFAULT);
    check_fault((void *)8);
    check_fault((void *)-1);
    errno = 0;
    CHECK(get(CLOCK_REALTIME, NULL) == -1 && errno == EFAULT);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    int64_t start_ns = strtoll(argv[1], NULL, 10);
    check_values(start_ns);
    check_refused(10);
    check_refused(12 + 1000);
    check_refused(-1);
    check_cpu_time();
    check_pointers(start_ns);
    check_values(start_ns);
    puts("EXIT-SUCCESS");
    return 0;
}
