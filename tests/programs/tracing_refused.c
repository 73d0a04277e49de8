// run: start=1970-01-01T00:00:00Z bare=fails
/* A limit: a traced program that traces gets EPERM, as under any tracer (ptrace(2)). */
#include "check.h"
#include <signal.h>
#include <sys/ptrace.h>

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 && errno == EPERM);
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    CHECK(ptrace(PTRACE_SEIZE, pid, NULL, NULL) == -1 && errno == EPERM);
    CHECK(ptrace(PTRACE_ATTACH, pid, NULL, NULL) == -1 && errno == EPERM);
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    check_wall(start_ns(argv));
    return success();
}
