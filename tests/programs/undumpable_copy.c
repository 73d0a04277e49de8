// run: start=1970-01-01T00:00:00Z bare=fails
/* In namespaces of its own, where it has a private copy of the page (native_stub/README.md), a program
 * makes itself undumpable and forks: the copy of the child, too, is told that the clock moves. */
#include "check.h"
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static void inside(char **argv)
{
    int64_t moved_ns = strtoll(argv[2], NULL, 10);
    int fds[2], ready[2];
    char byte = 0;
    check_wall(start_ns(argv));
    CHECK(pipe(fds) == 0 && pipe(ready) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        check_wall(start_ns(argv));
        CHECK(write(ready[1], &byte, 1) == 1);
        CHECK(read(fds[0], &byte, 1) == 1);
        check_wall(moved_ns);
        _exit(0);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    check_move(argv);
    CHECK(write(fds[1], &byte, 1) == 1);
    check_child(pid);
}

int main(int argc, char **argv)
{
    char map[64];
    CHECK(argc >= 3);
    if (argc > 3) {
        inside(argv);
        return 0;
    }
    check_wall(start_ns(argv));
    snprintf(map, sizeof map, "0 %d 1", getuid());
    CHECK(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) == 0);
    write_file("/proc/self/uid_map", map);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
        exec_role(argv, "inside");
    }
    check_child(pid);
    return success();
}
