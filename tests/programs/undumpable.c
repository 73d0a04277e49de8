// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* A program that is no more dumpable (prctl(2), PR_SET_DUMPABLE) is closed to an ordinary user's
 * tracer, its files under /proc belong to root. As agents for keys do, it has the clock all the same:
 * by the page, by system calls with their errors, for its deadlines, in its children. */
#include "check.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>

#define WAIT_NS 100000000LL

static long get(clockid_t id, void *ts)
{
    return syscall(SYS_clock_gettime, id, ts);
}

static void check_calls(int64_t wall_ns)
{
    struct timespec ts = {-1, -1};
    struct timeval tv = {-1, -1};
    check_wall(wall_ns);
    CHECK(get(CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), wall_ns);
    CHECK(syscall(SYS_gettimeofday, &tv, NULL) == 0);
    CHECK_EQUAL(tv.tv_sec, wall_ns / NSEC_PER_SEC);
    CHECK_EQUAL(raw_time(), wall_ns / NSEC_PER_SEC);
}

/* Where it may not write, it gets EFAULT and nothing is written. */
static void check_faults(void)
{
    struct timespec *ts = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(ts != MAP_FAILED);
    CHECK(get(CLOCK_MONOTONIC, ts) == -1 && errno == EFAULT);
    CHECK(ts->tv_sec == 0 && ts->tv_nsec == 0);
    CHECK(munmap(ts, 4096) == 0);
    CHECK(get(CLOCK_REALTIME, ts) == -1 && errno == EFAULT);
    CHECK(get(CLOCK_REALTIME, NULL) == -1 && errno == EFAULT);
}

static void check_wait(const char *what, int64_t began_ns)
{
    int64_t passed_ns = clock_ns(CLOCK_MONOTONIC) - began_ns;
    if (passed_ns < WAIT_NS || passed_ns > 50 * WAIT_NS) {
        dprintf(2, "%s took %lld ns\n", what, (long long)passed_ns);
        _exit(1);
    }
}

/* Until a point of its own wall clock, a tenth of a second from now. */
static void check_deadlines(void)
{
    int64_t began_ns = clock_ns(CLOCK_MONOTONIC), until_ns = clock_ns(CLOCK_REALTIME) + WAIT_NS;
    struct itimerspec until = {.it_value = {until_ns / NSEC_PER_SEC, until_ns % NSEC_PER_SEC}};
    uint64_t ticks = 0;
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until.it_value, NULL), 0);
    check_wait("clock_nanosleep", began_ns);

    int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
    began_ns = clock_ns(CLOCK_MONOTONIC);
    CHECK(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &until, NULL) == 0);
    CHECK(read(fd, &ticks, sizeof ticks) == sizeof ticks && ticks == 1);
    check_wait("timerfd", began_ns);
    CHECK(close(fd) == 0);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 3);
    check_calls(start_ns(argv));
    if (has_role(argv, "executed")) { /* exec makes it dumpable again */
        CHECK_EQUAL(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
        return 0;
    }
    CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    CHECK_EQUAL(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    check_calls(start_ns(argv));
    check_faults();
    check_deadlines();
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQUAL(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
        check_calls(start_ns(argv));
        check_deadlines();
        exec_role(argv, "executed");
    }
    check_child(pid);
    check_move(argv);
    check_calls(strtoll(argv[2], NULL, 10));
    return success();
}
