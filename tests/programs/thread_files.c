// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* A thread may have its own table of files (CLONE_FILES in unshare(2)): which timer is behind a
 * descriptor is asked of it, not of the first thread. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
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

int main(int argc, char **argv)
{
    pthread_t thread;
    CHECK(argc == 3);
    wall_ns = start_ns(argv);
    check_wall(wall_ns);
    CHECK(pthread_create(&thread, NULL, with_its_own_files, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    check_move(argv);
    return success();
}
