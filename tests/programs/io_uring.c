// run: start=1970-01-01T00:00:00Z args=none bare=never
// run: start=1970-01-01T00:00:00Z waits=real args=real bare=never
/* While waits follow the clock there is no io_uring, whose waits nobody would see; programs take their other
 * path then. */
#include "check.h"

int main(int argc, char **argv)
{
    char parameters[120] = {0};
    CHECK(argc == 4);
    long fd = syscall(425 /* io_uring_setup */, 1, parameters);
    if (has_role(argv, "none"))
        CHECK(fd == -1 && errno == ENOSYS);
    else
        CHECK(fd >= 0 || errno == ENOSYS || errno == EPERM); /* what the kernel says */
    return success();
}
