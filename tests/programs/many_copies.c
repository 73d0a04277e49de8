// run: start=1970-01-01T00:00:00Z bare=fails
/* A program that may not open a file more has a private copy of the page (native_stub/README.md), and so
 * have its children: sixty at once, and each copy is told that the clock moves. */
#include "check.h"
#include <sys/resource.h>

enum { CHILDREN = 60, READY_END = 3, READY, GO, GO_END };

int main(int argc, char **argv)
{
    struct rlimit full = {3, 3};
    char bytes[CHILDREN] = {0};
    int pipes[4];
    pid_t pids[CHILDREN];
    CHECK(argc >= 3);
    if (argc == 3) {
        CHECK(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
        CHECK(pipes[0] == READY_END && pipes[1] == READY && pipes[2] == GO && pipes[3] == GO_END);
        CHECK(setrlimit(RLIMIT_NOFILE, &full) == 0);
        exec_role(argv, "copied");
    }
    check_wall(start_ns(argv));
    for (int i = 0; i < CHILDREN; i++) {
        if ((pids[i] = fork()) == 0) {
            check_wall(start_ns(argv));
            CHECK(write(READY, bytes, 1) == 1 && read(GO, bytes, 1) == 1);
            check_wall(strtoll(argv[2], NULL, 10));
            _exit(0);
        }
    }
    for (int i = 0; i < CHILDREN; i++)
        CHECK(read(READY_END, bytes, 1) == 1);
    check_move(argv);
    CHECK(write(GO_END, bytes, CHILDREN) == CHILDREN);
    for (int i = 0; i < CHILDREN; i++)
        check_child(pids[i]);
    return success();
}
