// run: start=1970-01-01T00:00:00Z as=root bare=fails
/* In a namespace of each kind (namespaces(7)), entered after the start: the program, its children and
 * what they execute read the clock, by the page and by system calls, and set no other than it. */
#include "check.h"
#include <sched.h>


static void check_all(int64_t wall_ns)
{
    struct timespec ts = {-1, -1};
    check_wall(wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts) == 0);
    CHECK(llabs(clock_ns(CLOCK_MONOTONIC) - in_ns(ts)) < 60 * NSEC_PER_SEC);
}

static void enter(char **argv, int flags)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct timespec other = {86400, 0};
        CHECK(unshare(flags) == 0);
        check_all(start_ns(argv));
        if (flags & CLONE_NEWUSER) /* all capabilities, in a namespace that has no clock */
            CHECK(syscall(SYS_clock_settime, CLOCK_REALTIME, &other) == -1 && errno == EPERM);
        if ((pid = fork()) == 0) {
            check_all(start_ns(argv));
            exec_role(argv, "inside");
        }
        check_child(pid);
        if (!(flags & CLONE_NEWPID))
            exec_role(argv, "inside");
        _exit(0);
    }
    check_child(pid);
}

int main(int argc, char **argv)
{
    static const int flags[] = {
        CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,    CLONE_NEWNET,
        CLONE_NEWUTS,  CLONE_NEWIPC, CLONE_NEWCGROUP, CLONE_NEWTIME,
        CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWTIME,
    };
    CHECK(argc >= 3);
    check_all(start_ns(argv));
    if (argc > 3)
        return 0;
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
        enter(argv, flags[i]);
    check_move(argv);
    return success();
}
