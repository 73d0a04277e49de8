/* Threads that read clocks, by the page and by system calls, as fast as they can, until standard input
 * ends: no reading is before an earlier one of the same thread, nor before one that another thread had
 * made known by then; and no exact one is before a coarse one. Prints how many readings there were. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int done;
static _Atomic int64_t latest[4];
static atomic_long readings;
static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};

static void make_known(int i, int64_t now)
{
    int64_t known = latest[i];
    while (now > known && !atomic_compare_exchange_weak(&latest[i], &known, now))
        ;
}

static void *read_clocks(void *by_call)
{
    while (!done)
        for (int i = 0; i < 4; i++) {
            struct timespec ts;
            int64_t known = latest[i];
            int failed = by_call ? syscall(SYS_clock_gettime, clocks[i], &ts) : clock_gettime(clocks[i], &ts);
            int64_t now = ts.tv_sec * 1000000000LL + ts.tv_nsec;
            if (failed || now < known) {
                fprintf(stderr, "clock %d went from %lld to %lld\n", i, (long long)known, (long long)now);
                exit(1);
            }
            make_known(i, now);
            make_known(i % 2, now); /* the exact clock of the same line */
            readings++;
        }
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, read_clocks, (void *)(long)(i == 3));
    while (!readings)
        ;
    puts("READING");
    fflush(stdout);
    getchar();
    done = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("%ld\n", readings);
    return 0;
}
