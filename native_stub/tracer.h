/* What runs in the tracer's own process: a shared object that needs no library. */
#ifndef VDSOTIME_TRACER_H
#define VDSOTIME_TRACER_H

#if defined(__x86_64__)
#include "arch/x86_64.h"
#else
#error "no tracer for this architecture yet"
#endif

#define AT_FDCWD (-100) /* linux/fcntl.h */
#define PROCESS_PATH 40

/* "/proc/PID/..." */
static inline void process_path(char *path, uint64_t pid, const char *end)
{
    char digits[20];
    int count = 0;
    for (const char *start = "/proc/"; *start; start++)
        *path++ = *start;
    do
        digits[count++] = '0' + pid % 10;
    while (pid /= 10);
    while (count)
        *path++ = digits[--count];
    while ((*path++ = *end++))
        ;
}

struct takeover_block;
long take_over(long tid, long pid, const struct takeover_block *block, uint64_t *base);

#endif
