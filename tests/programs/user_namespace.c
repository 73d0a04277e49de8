// run: start=1970-01-01T00:00:00Z bare=fails
/* In a user namespace of its own, with a mount and a pid namespace, as rootless containers run. */
#include "check.h"
#include <fcntl.h>
#include <sched.h>

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

int main(int argc, char **argv)
{
    char map[64];
    CHECK(argc >= 3);
    if (argc == 3) {
        snprintf(map, sizeof map, "0 %d 1", getuid());
        CHECK(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
        write_file("/proc/self/uid_map", map);
        exec_role(argv, "inside");
    }
    CHECK_EQUAL(getuid(), 0);
    check_wall(start_ns(argv));
    check_move(argv);
    return success();
}
