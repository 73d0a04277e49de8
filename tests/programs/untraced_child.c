// run: start=1970-01-01T00:00:00Z on=static bare=fails
/* A child that asks not to be traced (CLONE_UNTRACED, clone(2)) has the clock like any other: by the
 * page, by system calls, after an exec; it is told when the clock moves. */
#include "check.h"
#include <sched.h>
#include <signal.h>

static void check_calls(int64_t wall_ns)
{
    struct timespec ts = {-1, -1};
    check_wall(wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), wall_ns);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 3);
    check_calls(start_ns(argv));
    if (has_role(argv, "child"))
        return 0;
    pid_t pid = syscall(SYS_clone, CLONE_UNTRACED | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        check_calls(start_ns(argv));
        exec_role(argv, "child");
    }
    check_child(pid);
    check_move(argv);
    return success();
}
