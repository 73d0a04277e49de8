// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* However a child begins (fork, vfork, clone, clone3, posix_spawn, system, popen) and whatever it
 * executes, it reads the same clock, and its parent is told of its end as ever. */
#include "check.h"
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>

extern char **environ;

static char **arguments;

static int check_and_end(void *unused)
{
    (void)unused;
    check_wall(start_ns(arguments));
    return 0;
}

static void by_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(check_and_end(NULL));
    check_child(pid);
    if ((pid = fork()) == 0)
        exec_role(arguments, "child");
    check_child(pid);
}

static void by_vfork(void)
{
    char *child[] = {arguments[0], arguments[1], arguments[2], "child", NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        execv(SELF, child);
        _exit(127);
    }
    check_child(pid);
    pid = vfork();
    if (pid == 0) {
        execv("/nonexistent", child);
        _exit(0);
    }
    check_child(pid);
}

static void by_posix_spawn(void)
{
    char *child[] = {arguments[0], arguments[1], arguments[2], "child", NULL};
    pid_t pid;
    CHECK(posix_spawn(&pid, SELF, NULL, NULL, child, environ) == 0);
    check_child(pid);
    CHECK(posix_spawn(&pid, "/nonexistent", NULL, NULL, child, environ) == ENOENT);
}

static void by_clone(int flags)
{
    char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    check_child(clone(check_and_end, stack + 65536, flags, NULL));
    CHECK(munmap(stack, 65536) == 0);
}

static void by_clone3(uint64_t flags, uint64_t exit_signal)
{
    int pidfd = -1;
    struct clone_args args = {.flags = flags, .exit_signal = exit_signal, .pidfd = (uintptr_t)&pidfd};
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        check_and_end(NULL);
        exec_role(arguments, "child");
    }
    if (flags & CLONE_PIDFD)
        CHECK(pidfd >= 0 && close(pidfd) == 0);
    check_child(pid);
}

static void by_shell(void)
{
    char command[256], line[32] = "";
    snprintf(command, sizeof command, "exec /proc/%d/exe %s %s child", getpid(), arguments[1],
             arguments[2]);
    CHECK(system(command) == 0);
    FILE *pipe = popen("date +%s", "r");
    CHECK(pipe && fgets(line, sizeof line, pipe));
    CHECK_EQUAL(atoll(line), start_ns(arguments) / NSEC_PER_SEC);
    CHECK(pclose(pipe) == 0);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 3);
    arguments = argv;
    check_wall(start_ns(argv));
    if (has_role(argv, "child"))
        return 0;
    for (int i = 0; i < 3; i++) {
        by_fork();
        by_vfork();
        by_posix_spawn();
        by_clone(SIGCHLD);
        by_clone(CLONE_VM | CLONE_VFORK | SIGCHLD);
        by_clone(CLONE_VM | CLONE_FILES | CLONE_FS); /* no signal at its end: __WALL alone sees it */
        by_clone3(0, SIGCHLD);
        by_clone3(CLONE_PIDFD | CLONE_CLEAR_SIGHAND, SIGCHLD);
        by_clone3(CLONE_VFORK, 0);
    }
    by_shell();
    return success();
}
