// run: start=1970-01-01T00:00:00Z on=static bare=fails
/* What a program makes of SIGTRAP is as it was after an exec that could not be taken over in the
 * shortest way (here: no descriptor to be had): ignored, blocked and pending all pass through exec. */
#include "check.h"
#include <signal.h>
#include <sys/resource.h>

static void fill_descriptors(void)
{
    struct rlimit limit = {3, 3};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

int main(int argc, char **argv)
{
    struct sigaction action;
    sigset_t set;
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    if (argc == 3) {
        fill_descriptors();
        CHECK(signal(SIGTRAP, SIG_IGN) != SIG_ERR);
        exec_role(argv, "ignored");
    }
    CHECK(sigprocmask(SIG_SETMASK, NULL, &set) == 0);
    CHECK(sigaction(SIGTRAP, NULL, &action) == 0);
    if (has_role(argv, "ignored")) {
        CHECK(action.sa_handler == SIG_IGN);
        CHECK_EQUAL(sigismember(&set, SIGTRAP), 0);
        CHECK(signal(SIGTRAP, SIG_DFL) != SIG_ERR);
        CHECK(sigfillset(&set) == 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0);
        CHECK(raise(SIGTRAP) == 0);
        exec_role(argv, "blocked");
    }
    CHECK(action.sa_handler == SIG_DFL);
    for (int number = 1; number < 32; number++)
        CHECK_EQUAL(sigismember(&set, number), number != SIGKILL && number != SIGSTOP);
    CHECK(sigpending(&set) == 0);
    CHECK_EQUAL(sigismember(&set, SIGTRAP), 1);
    check_move(argv);
    return success();
}
