/* Prints the nanoseconds that one clock_gettime(CLOCK_REALTIME) takes. The stopwatch is this
 * process's own CPU time, which is real on every clock; of a system call ("raw") others do the work,
 * so there it is CLOCK_MONOTONIC, which the clocks here leave real. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double stopwatch_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return ts.tv_sec * 1e9 + ts.tv_nsec;
}

int main(int argc, char **argv)
{
    long reads = argc > 1 ? atol(argv[1]) : 1;
    struct timespec ts;
    int is_raw = argc > 2;
    clockid_t stopwatch = is_raw ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
    double start = stopwatch_ns(stopwatch);
    if (is_raw)
        for (long i = 0; i < reads; i++)
            syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts);
    else
        for (long i = 0; i < reads; i++)
            clock_gettime(CLOCK_REALTIME, &ts);
    printf("%.3f\n", (stopwatch_ns(stopwatch) - start) / reads);
    return 0;
}
