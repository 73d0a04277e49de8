// run: start=1970-01-01T00:00:00Z bare=fails
/* A child begun with CLONE_UNTRACED, by which a debugger is not to follow it, has the clock as any
 * other: by libc, by the system call itself, and in the program that it executes. With CLONE_PTRACE
 * added it is followed after all, and runs at once. */
#include "check.h"
#include <linux/sched.h>
#include <signal.h>

static char **arguments;

static void check_child_of(long pid)
{
    struct timespec ts;
    if (pid == 0) {
        CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
        CHECK_EQUAL(in_ns(ts), start_ns(arguments));
        check_wall(start_ns(arguments));
        exec_role(arguments, "child");
    }
    check_child(pid);
}

static void by_clone(unsigned long flags)
{
    check_child_of(syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL));
}

static void by_clone3(uint64_t flags)
{
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    check_child_of(syscall(SYS_clone3, &args, sizeof args));
}

int main(int argc, char **argv)
{
    CHECK(argc >= 3);
    arguments = argv;
    check_wall(start_ns(argv));
    if (has_role(argv, "child"))
        return 0;
    by_clone(CLONE_UNTRACED);
    by_clone(CLONE_UNTRACED | CLONE_VFORK);
    by_clone3(CLONE_UNTRACED);
    int64_t before_ns = clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < 4; i++)
        by_clone(CLONE_UNTRACED | CLONE_PTRACE);
    CHECK(clock_ns(CLOCK_MONOTONIC) - before_ns < NSEC_PER_SEC);
    return success();
}
