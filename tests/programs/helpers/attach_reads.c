// built: on=static,dynamic,i386
/* Threads that read clocks in tight loops. On its standard input it is told what they must find:
 *
 *   w SECOND   within a second the wall clock reads that second everywhere; from then on nothing else
 *   r          within a second it reads real time everywhere; from then on nothing else
 *   a          anything goes
 *
 * and it answers with "ok". Whatever is told, no reading is torn, and the monotonic clock does not
 * go back in a thread but when it is told. Ends at the end of its input, with EXIT-SUCCESS. */
#include "../check.h"
#include <pthread.h>
#include <stdatomic.h>

static _Atomic int64_t told = -1; /* a second, or -1: anything, or -2: real time */
static _Atomic int rounds[256];
static _Atomic int done;
static int64_t real_start;

static int64_t seconds(int way)
{
    struct timespec ts;
    struct timeval tv;
    switch (way % 4) {
    case 0:
        CHECK(clock_gettime(CLOCK_REALTIME, &ts) == 0);
        CHECK(ts.tv_nsec >= 0 && ts.tv_nsec < NSEC_PER_SEC);
        return ts.tv_sec;
    case 1:
        CHECK(gettimeofday(&tv, NULL) == 0);
        CHECK(tv.tv_usec >= 0 && tv.tv_usec < 1000000);
        return tv.tv_sec;
    case 2:
        return time(NULL);
    default:
        return raw_time();
    }
}

static void *reader(void *argument)
{
    long number = (long)argument;
    const struct timespec moment = {.tv_nsec = 1000000};
    for (unsigned i = 0; !done; i++) {
        int64_t before = told;
        clock_ns(CLOCK_MONOTONIC);
        clock_ns(CLOCK_BOOTTIME);
        clock_ns(CLOCK_MONOTONIC_COARSE);
        if (i % 1024 == 1023) {
            clock_ns(CLOCK_PROCESS_CPUTIME_ID);
            nanosleep(&moment, NULL);
        }
        int64_t now = seconds(i % 1024 == 511 ? 3 : i % 3);
        if (before == told && before >= 0)
            CHECK_EQUAL(now, before);
        if (before == told && before == -2)
            CHECK(now >= real_start && now < real_start + 3600);
        if (before == told)
            atomic_store(&rounds[number], rounds[number] + 1);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[256];
    long count = argc > 1 ? atol(argv[1]) : 4;
    char line[64];
    const struct timespec moment = {.tv_nsec = 1000000};
    real_start = time(NULL) - 5;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (long i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    puts("up");
    while (fgets(line, sizeof line, stdin)) {
        atomic_store(&told, line[0] == 'w' ? atoll(line + 2) : line[0] == 'r' ? -2 : -1);
        for (long i = 0; i < count; i++) {
            int from = rounds[i];
            while (rounds[i] < from + 3)
                nanosleep(&moment, NULL);
        }
        puts("ok");
    }
    done = 1;
    for (long i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return success();
}
