// run: on=static,static-pie,dynamic bare=passes
/* Nothing of the takeover shows in a program but the page and the image: no descriptor, no mapping
 * that is both writable and executable, no variable, no thread. */
#include "check.h"
#include <fcntl.h>
#include <sched.h>

extern char **environ;

static int count_lines(const char *path, const char *word)
{
    char line[4096];
    int count = 0;
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (fgets(line, sizeof line, file))
        count += strstr(line, word) != NULL;
    fclose(file);
    return count;
}

int main(void)
{
    for (int fd = 0; fd < 1024; fd++)
        CHECK_EQUAL(fcntl(fd, F_GETFD) >= 0, fd < 3);
    CHECK_EQUAL(count_lines("/proc/self/maps", "rwx"), 0);
    CHECK_EQUAL(count_lines("/proc/self/maps", "[vdso]"), 1);
    CHECK_EQUAL(count_lines("/proc/self/maps", "launch"), 0);
    CHECK_EQUAL(count_lines("/proc/self/status", "Threads:\t1\n"), 1);
    for (char **variable = environ; *variable; variable++)
        CHECK(strncmp(*variable, "LD_PRELOAD=", 11) != 0);
    return success();
}
