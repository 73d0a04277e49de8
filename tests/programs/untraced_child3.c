// run: start=1970-01-01T00:00:00Z on=static bare=fails
/* As untraced_child.c by clone3, whose flags stand in memory, where no filter sees them. */
#include "check.h"
#include <linux/sched.h>
#include <signal.h>

int main(int argc, char **argv)
{
    struct clone_args args = {.flags = CLONE_UNTRACED, .exit_signal = SIGCHLD};
    struct timespec ts = {-1, -1};
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), start_ns(argv));
    if (has_role(argv, "child"))
        return 0;
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        exec_role(argv, "child");
    check_child(pid);
    check_move(argv);
    return success();
}
