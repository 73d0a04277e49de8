// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=passes
/* Whose child a process is and what it is told of its parent's end (PR_SET_CHILD_SUBREAPER,
 * PR_SET_PDEATHSIG in prctl(2), CLONE_PARENT in clone(2)) is as alone. */
#include "check.h"
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

/* An orphan is the child of the nearest subreaper. */
static void check_subreaper(void)
{
    int fds[2], status;
    pid_t orphan, pid;
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 && pipe(fds) == 0);
    if ((pid = fork()) == 0) {
        if ((orphan = fork()) == 0) {
            pid_t self = getpid();
            while (getppid() == pid || getppid() == 0)
                usleep(1000);
            CHECK(write(fds[1], &self, sizeof self) == sizeof self);
            _exit(42);
        }
        _exit(0);
    }
    check_child(pid);
    CHECK(read(fds[0], &orphan, sizeof orphan) == sizeof orphan);
    CHECK_EQUAL(waitpid(orphan, &status, 0), orphan);
    CHECK_EQUAL(status, 42 << 8);
    CHECK(close(fds[0]) == 0 && close(fds[1]) == 0);
}

/* The end of the parent is a signal; its default is death, which the subreaper sees. */
static void check_death_signal(void)
{
    int fds[2], status, signal_number;
    pid_t child, pid;
    CHECK(pipe(fds) == 0);
    if ((pid = fork()) == 0) {
        if ((child = fork()) == 0) {
            pid_t self = getpid();
            CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0) == 0);
            CHECK(prctl(PR_GET_PDEATHSIG, &signal_number, 0, 0, 0) == 0);
            CHECK_EQUAL(signal_number, SIGUSR1);
            CHECK(write(fds[1], &self, sizeof self) == sizeof self);
            for (;;)
                pause();
        }
        CHECK(read(fds[0], &child, sizeof child) == sizeof child);
        CHECK(write(fds[1], &child, sizeof child) == sizeof child);
        _exit(0);
    }
    check_child(pid);
    CHECK(read(fds[0], &child, sizeof child) == sizeof child);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
}

/* A child that its parent gives to its own parent. */
static void check_sibling(void)
{
    int fds[2], status;
    pid_t sibling, pid;
    CHECK(pipe(fds) == 0);
    if ((pid = fork()) == 0) {
        sibling = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
        if (sibling == 0)
            _exit(43);
        CHECK(sibling > 0);
        CHECK(waitpid(sibling, &status, 0) == -1 && errno == ECHILD);
        CHECK(write(fds[1], &sibling, sizeof sibling) == sizeof sibling);
        _exit(0);
    }
    check_child(pid);
    CHECK(read(fds[0], &sibling, sizeof sibling) == sizeof sibling);
    CHECK_EQUAL(waitpid(sibling, &status, 0), sibling);
    CHECK_EQUAL(status, 43 << 8);
    CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
}

int main(void)
{
    int reaper = 0;
    check_subreaper();
    check_death_signal();
    check_sibling();
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &reaper, 0, 0, 0) == 0 && reaper == 1);
    /* Who may trace it beside its parents: of no effect, and refused where there is no Yama. */
    CHECK(prctl(PR_SET_PTRACER, getppid(), 0, 0, 0) == 0 || errno == EINVAL);
    return success();
}
