/* Prints the nanoseconds that one clock_gettime(CLOCK_REALTIME) takes. The stopwatch is this
 * process's own CPU time, which is real on every clock. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return ts.tv_sec * 1e9 + ts.tv_nsec;
}

int main(int argc, char **argv)
{
    long reads = argc > 1 ? atol(argv[1]) : 1;
    struct timespec ts;
    double start = cpu_ns();
    for (long i = 0; i < reads; i++)
        clock_gettime(CLOCK_REALTIME, &ts);
    printf("%.3f\n", (cpu_ns() - start) / reads);
    return 0;
}
