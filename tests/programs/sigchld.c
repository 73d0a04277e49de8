// run: bare=passes
/* A parent gets one SIGCHLD for each of its children's ends, stops and continuations, with the pid,
 * the status and the code of each, and none for anything the tracer does. */
#include "check.h"
#include <signal.h>

enum { CHILDREN = 20 };

static sigset_t chld;

static siginfo_t next_sigchld(void)
{
    siginfo_t info;
    CHECK(sigwaitinfo(&chld, &info) == SIGCHLD);
    return info;
}

static void expect_none(void)
{
    struct timespec now = {0, 0};
    CHECK(sigtimedwait(&chld, NULL, &now) == -1 && errno == EAGAIN);
}

int main(int argc, char **argv)
{
    siginfo_t info;
    int status;

    if (has_role(argv, "child"))
        return 5;
    CHECK(argc == 3);
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    CHECK(sigprocmask(SIG_BLOCK, &chld, NULL) == 0);

    for (int i = 0; i < CHILDREN; i++) { /* one at a time: SIGCHLD does not queue */
        pid_t pid = fork();
        if (pid == 0) {
            if (i % 2)
                exec_role(argv, "child");
            _exit(i);
        }
        info = next_sigchld();
        CHECK(info.si_pid == pid && info.si_code == CLD_EXITED);
        CHECK_EQUAL(info.si_status, i % 2 ? 5 : i);
        CHECK(waitpid(pid, &status, WNOHANG) == pid);
        expect_none();
    }

    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    CHECK(kill(pid, SIGSTOP) == 0);
    info = next_sigchld();
    CHECK(info.si_pid == pid && info.si_code == CLD_STOPPED && info.si_status == SIGSTOP);
    expect_none();
    CHECK(kill(pid, SIGCONT) == 0);
    info = next_sigchld();
    CHECK(info.si_pid == pid && info.si_code == CLD_CONTINUED && info.si_status == SIGCONT);
    CHECK(kill(pid, SIGKILL) == 0);
    info = next_sigchld();
    CHECK(info.si_pid == pid && info.si_code == CLD_KILLED && info.si_status == SIGKILL);
    CHECK(waitpid(pid, &status, WNOHANG) == pid);

    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    pid = fork();
    if (pid == 0) {
        raise(SIGSTOP);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    expect_none();
    CHECK(kill(pid, SIGCONT) == 0);
    info = next_sigchld();
    CHECK(info.si_code == CLD_EXITED);
    CHECK(waitpid(pid, &status, 0) == pid);

    action.sa_flags = SA_NOCLDWAIT;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    pid = fork();
    if (pid == 0)
        _exit(0);
    CHECK(waitpid(pid, &status, 0) == -1 && errno == ECHILD); /* returns when it has ended */
    return success();
}
