// run: start=1970-01-01T00:00:00Z bare=fails
/* A tree of processes that all begin and end at once, some of them without waiting for their
 * children, then a chain in which each executes the next. Every single one reads the clock. */
#include "check.h"
#include <sys/prctl.h>

enum { WIDTH = 4, DEPTH = 4, LINKS = 40 };

static void storm(char **argv, int depth)
{
    pid_t children[WIDTH];
    check_wall(start_ns(argv));
    if (depth == 0)
        return;
    for (int i = 0; i < WIDTH; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            storm(argv, depth - 1);
            _exit(0);
        }
    }
    for (int i = 0; i < WIDTH; i++)
        check_child(children[i]);
}

/* Children whose parent is gone come to the subreaper. */
static void orphans(char **argv)
{
    int status, ended = 0;
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    for (int i = 0; i < 10; i++)
        if (fork() == 0) {
            for (int k = 0; k < 3; k++)
                if (fork() == 0) {
                    check_wall(start_ns(argv));
                    _exit(0);
                }
            _exit(0);
        }
    while (wait(&status) > 0) {
        CHECK_EQUAL(status, 0);
        ended++;
    }
    CHECK_EQUAL(ended, 40);
}

int main(int argc, char **argv)
{
    char left[16];
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    if (argc == 3) {
        storm(argv, DEPTH);
        orphans(argv);
    }
    int links = argc == 3 ? LINKS : atoi(argv[3]);
    if (links == 0)
        return success();
    snprintf(left, sizeof left, "%d", links - 1);
    exec_role(argv, left);
}
