// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,i386 args=1000 bare-args=0 bare=passes
/* A child of vfork(2) that waits before it ends or executes: so does its parent, for as long (vfork(2)). */
#include "check.h"
#include <sched.h>
#include <signal.h>

static char stack[65536] __attribute__((aligned(64)));

static int wait_so_long(void *length)
{
    return nanosleep(length, NULL);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    struct timespec length = {atoi(argv[3]), 0};
    int64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
    CHECK(dprintf(1, "ADVANCE %lld\n", 2LL * length.tv_sec) > 0);
    pid_t child = clone(wait_so_long, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &length);
    int64_t passed_ns = clock_ns(CLOCK_MONOTONIC) - begin_ns - in_ns(length);
    CHECK(passed_ns >= 0 && passed_ns < 60 * NSEC_PER_SEC);
    check_child(child);
    return success();
}
