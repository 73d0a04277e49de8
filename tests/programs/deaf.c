// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* A program that blocks every signal, then ignores every one, reads the clock, makes system calls, waits,
 * has children and executes, and hears nothing of it. */
#include "check.h"
#include <signal.h>

static void check_calls(int64_t wall_ns)
{
    int64_t until_ns = wall_ns + 20000000, began_ns = clock_ns(CLOCK_MONOTONIC);
    struct timespec ts = {-1, -1}, until = {until_ns / NSEC_PER_SEC, until_ns % NSEC_PER_SEC};
    check_wall(wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), wall_ns);
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL), 0);
    CHECK(clock_ns(CLOCK_MONOTONIC) - began_ns >= 20000000);
}

static void check_nothing_heard(int blocked, int ignored)
{
    struct sigaction action;
    sigset_t mask, pending;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &mask) == 0 && sigpending(&pending) == 0);
    for (int number = 1; number < SIGRTMIN; number++) {
        if (number == SIGKILL || number == SIGSTOP || number >= 32)
            continue;
        CHECK_EQUAL(sigismember(&mask, number), blocked);
        CHECK(number == SIGCHLD || sigismember(&pending, number) == 0);
        CHECK(sigaction(number, NULL, &action) == 0);
        CHECK(action.sa_handler == (ignored && number != SIGCHLD ? SIG_IGN : SIG_DFL));
    }
}

static void check_children(char **argv, char *role)
{
    pid_t pid = fork();
    if (pid == 0) {
        check_calls(start_ns(argv));
        exec_role(argv, role);
    }
    check_child(pid);
}

int main(int argc, char **argv)
{
    sigset_t all;
    CHECK(argc >= 3);
    if (argc > 3) {
        check_calls(start_ns(argv));
        check_nothing_heard(1, has_role(argv, "ignoring"));
        return 0;
    }
    CHECK(sigfillset(&all) == 0 && sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    check_calls(start_ns(argv));
    check_nothing_heard(1, 0);
    check_children(argv, "blocking");
    for (int number = 1; number <= SIGRTMAX; number++)
        if (number != SIGCHLD) /* ignored, its children would end without a status */
            signal(number, SIG_IGN);
    check_calls(start_ns(argv));
    check_nothing_heard(1, 1);
    check_children(argv, "ignoring");
    check_move(argv);
    check_nothing_heard(1, 1);
    return success();
}
