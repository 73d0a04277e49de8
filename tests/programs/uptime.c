// run: start=1970-01-01T00:00:00Z bare=fails
// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,i386 bare=never
/* sysinfo's uptime and the ticks that times() returns follow the monotonic line. */
#include "check.h"
#include <sys/sysinfo.h>
#include <sys/times.h>

int main(int argc, char **argv)
{
    struct sysinfo first, second;
    struct tms tms;
    long tick = sysconf(_SC_CLK_TCK);
    char line[16];
    (void)argv;

    CHECK(argc == 3);
    CHECK(sysinfo(&first) == 0);
    CHECK(llabs((long long)first.uptime - clock_ns(CLOCK_BOOTTIME) / NSEC_PER_SEC) <= 1);
    CHECK(first.totalram > 0 && first.procs > 0);
    clock_t ticks = times(&tms);
    for (int i = 0; i < 1000; i++) { /* they do not go back */
        clock_t now = times(&tms);
        CHECK(now >= ticks);
        ticks = now;
    }
    puts("MOVE");
    fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin));
    CHECK(sysinfo(&second) == 0);
    CHECK(second.uptime - first.uptime >= 3600 && second.uptime - first.uptime < 3660);
    CHECK(second.totalram == first.totalram);
    clock_t passed = times(&tms) - ticks;
    CHECK(passed >= 3600 * tick && passed < 3660 * tick);
    CHECK(tms.tms_utime < 60 * tick);
    errno = 0;
    CHECK(syscall(SYS_sysinfo, (void *)8) == -1 && errno == EFAULT);
    puts("EXIT-SUCCESS");
    return 0;
}
