// run: start=1970-01-01T00:00:00Z on=static,i386 bare=fails
/* A program that may not open one more file is given the clock all the same, sees it move, and its
 * descriptors and its limit are as it left them. */
#include "check.h"
#include <fcntl.h>
#include <sys/resource.h>

int main(int argc, char **argv)
{
    struct rlimit limit;
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    if (!argv[3]) {
        limit = (struct rlimit){3, 3};
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        exec_role(argv, "full");
    }
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max == (has_role(argv, "full") ? 3 : 0));
    for (int fd = 0; fd < 1024; fd++)
        CHECK_EQUAL(fcntl(fd, F_GETFD), fd < 3 ? 0 : -1);
    CHECK(open("/dev/null", O_RDONLY) == -1 && errno == EMFILE);
    if (has_role(argv, "full")) {
        limit = (struct rlimit){0, 0};
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        exec_role(argv, "none");
    }
    check_move(argv);
    return success();
}
