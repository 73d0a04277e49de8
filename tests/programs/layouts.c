// run: start=1970-01-01T00:00:00Z on=static,static-pie,dynamic bare=fails
/* Wherever the kernel puts things (personality(2), RLIMIT_STACK in Documentation on mmap layouts), the
 * clock finds a place beside them. */
#include "check.h"
#include <sys/personality.h>
#include <sys/resource.h>

static void run(char **argv, unsigned long flags, rlim_t stack)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit;
        CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
        limit.rlim_cur = stack < limit.rlim_max ? stack : limit.rlim_max;
        CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
        CHECK(personality(flags) != -1);
        exec_role(argv, "inside");
    }
    check_child(pid);
}

int main(int argc, char **argv)
{
    static const unsigned long flags[] = {
        0, ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT, ADDR_COMPAT_LAYOUT | ADDR_NO_RANDOMIZE,
        READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, STICKY_TIMEOUTS, ADDR_LIMIT_3GB, ADDR_LIMIT_32BIT,
        UNAME26, WHOLE_SECONDS,
    };
    static const rlim_t stacks[] = {64 * 1024, 8 * 1024 * 1024, 1024 * 1024 * 1024, RLIM_INFINITY};
    struct timespec ts;
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), start_ns(argv));
    if (has_role(argv, "inside"))
        return 0;
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
        for (unsigned j = 0; j < sizeof stacks / sizeof *stacks; j++)
            run(argv, flags[i], stacks[j]);
    check_move(argv);
    return success();
}
