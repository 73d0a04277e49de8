// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* A thread may have its own table of files (CLONE_FILES in unshare(2)): which timer or socket is
 * behind a descriptor is asked of it, not of the first thread. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define WAIT_NS 100000000LL

static int64_t wall_ns;

/* Until a point of the wall clock, by a timer that only this thread has. */
static void *with_its_own_files(void *unused)
{
    int64_t until_ns = wall_ns + WAIT_NS, began_ns = clock_ns(CLOCK_MONOTONIC);
    struct itimerspec until = {.it_value = {until_ns / NSEC_PER_SEC, until_ns % NSEC_PER_SEC}};
    uint64_t ticks;
    CHECK(unshare(CLONE_FILES) == 0);
    int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
    CHECK(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &until, NULL) == 0);
    CHECK(read(fd, &ticks, sizeof ticks) == sizeof ticks);
    CHECK(clock_ns(CLOCK_MONOTONIC) - began_ns >= WAIT_NS);
    return unused;
}

static volatile int has_timeout;

/* For almost an hour, at a socket that only this thread has. */
static void *at_its_own_socket(void *unused)
{
    struct timeval hour = {3599, 0};
    int sockets[2];
    char byte;
    CHECK(unshare(CLONE_FILES) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour) == 0);
    has_timeout = 1;
    CHECK(recv(sockets[0], &byte, 1, 0) == -1 && errno == EAGAIN);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    CHECK(argc == 3);
    wall_ns = start_ns(argv);
    check_wall(wall_ns);
    CHECK(pthread_create(&thread, NULL, with_its_own_files, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, at_its_own_socket, NULL) == 0);
    while (!has_timeout)
        sched_yield();
    check_move(argv);
    CHECK(pthread_join(thread, NULL) == 0);
    return success();
}
