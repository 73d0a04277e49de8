// run: start=1970-01-01T00:00:00Z as=root bare=fails
/* Servers begin as root and give it up. From then on the program is not dumpable and its tracer's files
 * are closed to it; with PR_SET_DUMPABLE it is again. By the page, by system calls, for its deadlines,
 * in its children, after an exec it has the clock, but it may not set it any more. */
#include "check.h"
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>

#define WAIT_NS 50000000LL
enum { USER = 65534 };

static void check_all(int64_t wall_ns)
{
    struct timespec ts = {-1, -1}, other = {86400, 0};
    int64_t until_ns = wall_ns + WAIT_NS, began_ns = clock_ns(CLOCK_MONOTONIC);
    struct itimerspec until = {.it_value = {until_ns / NSEC_PER_SEC, until_ns % NSEC_PER_SEC}};
    uint64_t ticks;

    check_wall(wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, (void *)8) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_clock_settime, CLOCK_REALTIME, &other) == -1 && errno == EPERM);
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until.it_value, NULL), 0);
    CHECK(clock_ns(CLOCK_MONOTONIC) - began_ns >= WAIT_NS);
    began_ns = clock_ns(CLOCK_MONOTONIC);
    int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
    CHECK(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &until, NULL) == 0);
    CHECK(read(fd, &ticks, sizeof ticks) == sizeof ticks && close(fd) == 0);
    CHECK(clock_ns(CLOCK_MONOTONIC) - began_ns >= WAIT_NS);
}

static void execute(char **argv, char *role)
{
    char *arguments[] = {argv[0], argv[1], argv[2], role, NULL};
    fexecve(3, arguments, (char *[]){NULL});
    CHECK(!"exec");
}

int main(int argc, char **argv)
{
    CHECK(argc >= 3);
    if (argc == 3) {
        CHECK_EQUAL(open(SELF, O_RDONLY), 3);
        CHECK(setgroups(0, NULL) == 0 && setresgid(USER, USER, USER) == 0);
        CHECK(setresuid(USER, USER, USER) == 0);
        CHECK_EQUAL(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    }
    check_all(start_ns(argv));
    if (argc > 3)
        return 0;
    for (int dumpable = 0; dumpable < 2; dumpable++) {
        if (dumpable)
            CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
        check_all(start_ns(argv));
        pid_t pid = fork();
        if (pid == 0) {
            check_all(start_ns(argv));
            execute(argv, "executed");
        }
        check_child(pid);
    }
    check_move(argv);
    check_all(strtoll(argv[2], NULL, 10));
    return success();
}
