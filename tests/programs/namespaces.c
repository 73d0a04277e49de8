// run: start=1970-01-01T00:00:00Z on=static,i386 as=root bare=fails
/* As the first process of a pid namespace with its own /proc, where the tracer's pid means nothing
 * or somebody else. */
#include "check.h"
#include <sched.h>
#include <sys/mount.h>

int main(int argc, char **argv)
{
    CHECK(argc >= 3);
    if (argc == 3) {
        check_wall(start_ns(argv));
        CHECK(unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC) == 0);
        pid_t pid = fork();
        if (pid == 0) {
            CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
            CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
            exec_role(argv, "inside");
        }
        check_child(pid);
        return success();
    }
    CHECK_EQUAL(getpid(), 1);
    check_wall(start_ns(argv));
    for (int i = 0; i < 20; i++) { /* sooner or later one has the tracer's pid or the waker's */
        pid_t pid = fork();
        if (pid == 0) {
            if (!has_role(argv, "inside"))
                _exit(1);
            check_wall(start_ns(argv));
            _exit(0);
        }
        check_child(pid);
    }
    check_move(argv);
    return 0;
}
