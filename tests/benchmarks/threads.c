/* Makes and joins a thousand threads, with an argument beside one that is busy, and prints the microseconds that each
 * took. */
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define COUNT 1000

static volatile int is_over;

static void *nothing(void *unused) { return unused; }

static void *spin(void *unused)
{
    while (!is_over)
        ;
    return unused;
}

int main(int argc, char **argv)
{
    struct timespec start, end;
    pthread_t busy, thread;
    (void)argv;
    if (argc > 1)
        pthread_create(&busy, NULL, spin, NULL);
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < COUNT; i++) {
        pthread_create(&thread, NULL, nothing, NULL);
        pthread_join(thread, NULL);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    is_over = 1;
    printf("%.3f\n", ((end.tv_sec - start.tv_sec) * 1e9 + end.tv_nsec - start.tv_nsec) / COUNT / 1e3);
    return 0;
}
