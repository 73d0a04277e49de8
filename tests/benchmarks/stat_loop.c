/* How long one stat of a file takes, in ticks of the processor's counter, which is real on any clock: the median of many
 * loops. Usage: stat_loop WAY PATH; without them the ticks of a second. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SYS_fstat64
#define FSTAT SYS_fstat64
#else
#define FSTAT SYS_fstat
#endif
#define LOOPS 41
#define CALLS 200

static uint64_t ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
#else
    uint64_t value;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(value));
    return value;
#endif
}

static int by_value(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        uint64_t start = ticks();
        usleep(200000);
        printf("%.1f\n", (double)(ticks() - start) * 5);
        return 0;
    }
    uint64_t taken[LOOPS];
    struct stat found;
    struct statx more;
    const char *way = argv[1], *path = argv[2];
    int fd = open(path, O_RDONLY);
    for (int i = 0; i < LOOPS; i++) {
        uint64_t start = ticks();
        for (int j = 0; j < CALLS; j++) {
            if (!strcmp(way, "stat"))
                stat(path, &found);
            else if (!strcmp(way, "lstat"))
                lstat(path, &found);
            else if (!strcmp(way, "fstat"))
                syscall(FSTAT, fd, &found);
            else
                statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_BTIME, &more);
        }
        taken[i] = ticks() - start;
    }
    qsort(taken, LOOPS, sizeof *taken, by_value);
    printf("%.1f\n", (double)taken[LOOPS / 2] / CALLS);
    return 0;
}
