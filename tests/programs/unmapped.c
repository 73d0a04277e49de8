// run: start=1970-01-01T00:00:00Z bare=fails
/* A program that unmaps what it was given for its deadlines gets EFAULT for them, and harms neither
 * the tracer nor its other calls. */
#include "check.h"
#include <sys/mman.h>

int main(int argc, char **argv)
{
    char line[512];
    char *page = NULL;
    FILE *maps = fopen("/proc/self/maps", "r");
    struct timespec soon = {0, 100000000}, ts;

    CHECK(argc == 3 && maps);
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "/memfd:vdsotime") && strstr(line, " r--s "))
            page = (char *)strtoull(line, NULL, 16);
    fclose(maps);
    CHECK(page);
    CHECK(munmap(page + 4096, 4096) == 0);
    errno = 0;
    CHECK(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &soon, NULL) == 0);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), strtoll(argv[1], NULL, 10));
    puts("EXIT-SUCCESS");
    return 0;
}
