/* A program that is alone on its clock and sleeps: time can pass at once, without a word to the tracer. */
#ifndef VDSOTIME_SLEEPER_H
#define VDSOTIME_SLEEPER_H

#include <stdint.h>

struct sleeper {
    uint64_t tid;       /* whose sleeps pass; 0: nobody's */
    uint64_t page;      /* its clock's, in the tracer's process (page.h) */
    uint64_t most_ns;   /* how far its lines may still go */
    uint64_t rounds_ns; /* how much more than a sleep they may go for the wall line to read a whole millisecond */
    uint64_t passed_ns; /* told by the fast path: how far they have gone */
};

struct syscall_info;
int passes_sleep(struct sleeper *sleeper, uint64_t tid, const struct syscall_info *info);

#endif
