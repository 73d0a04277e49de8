// run: start=1970-01-01T00:00:00Z on=static,i386-dynamic bare=fails
/* A daemon as they have always been made: fork, setsid, fork, and both parents end. The daemon still
 * reads the clock, sees it move, and executes programs that do. */
#include "check.h"

int main(int argc, char **argv)
{
    int orphaned[2];
    pid_t first;

    CHECK(argc >= 3);
    if (has_role(argv, "daemon")) {
        check_move(argv);
        return success();
    }
    check_wall(start_ns(argv));
    CHECK(pipe(orphaned) == 0);
    first = fork();
    if (first == 0) {
        CHECK(setsid() == getpid());
        if (fork() > 0)
            _exit(0);
        char end;
        close(orphaned[1]);
        CHECK(read(orphaned[0], &end, 1) == 0); /* the first process has ended */
        check_wall(start_ns(argv));
        exec_role(argv, "daemon");
    }
    check_child(first);
    return 0;
}
