// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* The first thread has ended, the others go on: a zombie, with no files and no memory to be seen under
 * /proc (pthread_exit(3)). They read the clock, wait until a point of it, start children, execute. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/timerfd.h>

#define WAIT_NS 100000000LL

static char **arguments;
static pthread_t first;

static void check_calls(int64_t wall_ns)
{
    struct timespec ts = {-1, -1};
    check_wall(wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), wall_ns);
    CHECK_EQUAL(raw_time(), wall_ns / NSEC_PER_SEC);
}

static void check_waits(int64_t wall_ns)
{
    int64_t until_ns = wall_ns + WAIT_NS, began_ns = clock_ns(CLOCK_MONOTONIC);
    struct itimerspec until = {.it_value = {until_ns / NSEC_PER_SEC, until_ns % NSEC_PER_SEC}};
    struct sigevent nothing = {.sigev_notify = SIGEV_NONE};
    struct itimerspec left;
    uint64_t ticks;
    timer_t timer;

    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until.it_value, NULL), 0);
    CHECK(clock_ns(CLOCK_MONOTONIC) - began_ns >= WAIT_NS);
    int thread = syscall(SYS_pidfd_open, gettid(), O_EXCL /* PIDFD_THREAD, since Linux 6.9 */);
    if (thread >= 0) {
        began_ns = clock_ns(CLOCK_MONOTONIC);
        int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
        CHECK(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &until, NULL) == 0);
        CHECK(read(fd, &ticks, sizeof ticks) == sizeof ticks);
        CHECK(clock_ns(CLOCK_MONOTONIC) - began_ns >= WAIT_NS);
        CHECK(close(fd) == 0 && close(thread) == 0);
    } /* else no timer of such a process can be reached, which is told */
    CHECK(timer_create(CLOCK_REALTIME, &nothing, &timer) == 0);
    CHECK(timer_settime(timer, TIMER_ABSTIME, &until, NULL) == 0);
    CHECK(timer_gettime(timer, &left) == 0 && in_ns(left.it_value) > 0);
    CHECK(timer_delete(timer) == 0);
}

static void *go_on(void *unused)
{
    char state[256] = "";
    CHECK(pthread_join(first, NULL) == 0);
    do { /* the kernel's end of it comes after the join */
        usleep(1000);
        int fd = open("/proc/self/stat", O_RDONLY);
        CHECK(fd >= 0 && read(fd, state, sizeof state - 1) > 0 && close(fd) == 0);
    } while (!strstr(state, ") Z"));
    check_calls(start_ns(arguments));
    check_waits(start_ns(arguments));
    pid_t pid = fork();
    if (pid == 0) {
        check_calls(start_ns(arguments));
        check_waits(start_ns(arguments));
        _exit(0);
    }
    check_child(pid);
    check_move(arguments);
    check_calls(strtoll(arguments[2], NULL, 10));
    char *self[] = {arguments[0], arguments[1], arguments[2], "executed", NULL};
    execv(arguments[0], self);
    CHECK(!"exec");
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    CHECK(argc >= 3);
    if (has_role(argv, "executed")) {
        check_calls(strtoll(argv[2], NULL, 10));
        return success();
    }
    arguments = argv;
    first = pthread_self();
    check_calls(start_ns(argv));
    CHECK(pthread_create(&thread, NULL, go_on, NULL) == 0);
    pthread_exit(NULL);
}
