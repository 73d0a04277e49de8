/* A tracer that does nothing: it follows a program and all that it starts, as the package's own does
 * (ptrace(2)), and lets each stop go on at once. What any tracer costs at the least. */
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int ready[2], status;
    char go;
    if (argc < 2 || pipe(ready))
        return 125;
    pid_t program = fork();
    if (program == 0) {
        close(ready[1]);
        if (read(ready[0], &go, 1) == 1) {
            close(ready[0]);
            execvp(argv[1], argv + 1);
        }
        _exit(127);
    }
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK
        | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, program, 0, options) || write(ready[1], "!", 1) != 1)
        return 125;
    for (;;) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0)
            return 125;
        if (!WIFSTOPPED(status)) {
            if (pid == program)
                return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        int event = status >> 16, number = WSTOPSIG(status);
        if (event == PTRACE_EVENT_STOP && number != SIGTRAP)
            ptrace(PTRACE_LISTEN, pid, 0, 0);
        else
            ptrace(PTRACE_CONT, pid, 0, event ? 0 : number);
    }
}
