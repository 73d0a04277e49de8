/* Says how often it has given up its processor of its own accord, as at each ptrace stop: in an exec of itself, and then
 * in a sleep of an hour. */
#include "../check.h"
#include <sys/resource.h>

static long switches(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_nvcsw;
}

int main(int argc, char **argv)
{
    char before[24];
    struct timespec hour = {.tv_sec = 3600};
    if (argc < 2) {
        snprintf(before, sizeof before, "%ld", switches());
        execl("/proc/self/exe", argv[0], before, NULL);
        CHECK(!"an exec");
    }
    printf("%ld\n", switches() - atol(argv[1]));
    fflush(stdout);
    long start = switches();
    CHECK(nanosleep(&hour, NULL) == 0);
    printf("%ld\n", switches() - start);
    return 0;
}
