// run: start=1970-01-01T00:00:00Z steps=200 bare=fails
/* Sixty-four threads make hundreds of system calls each while the test advances by a second and a
 * nanosecond at a time (seqlock.c): no reading is torn or older than one before it, and at the end all
 * of them have come to the instant in MOVED_NS. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 64, CALLS = 250 };

static pthread_barrier_t all_have_read;

static int64_t call(void)
{
    struct timespec ts = {-1, -1};
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(ts.tv_nsec, ts.tv_sec);
    return in_ns(ts);
}

static void *caller(void *end_ns)
{
    int64_t previous_ns = call();
    pthread_barrier_wait(&all_have_read);
    for (int i = 0; i < CALLS; i++) {
        int64_t ns = call();
        CHECK(ns >= previous_ns);
        previous_ns = ns;
    }
    while (previous_ns < *(int64_t *)end_ns) {
        usleep(50000);
        int64_t ns = call();
        CHECK(ns >= previous_ns);
        previous_ns = ns;
    }
    CHECK_EQUAL(previous_ns, *(int64_t *)end_ns);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    CHECK(argc == 3);
    int64_t end_ns = strtoll(argv[2], NULL, 10);
    check_wall(start_ns(argv));
    CHECK(pthread_barrier_init(&all_have_read, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, caller, &end_ns) == 0);
    pthread_barrier_wait(&all_have_read);
    CHECK(write(1, "MOVE\n", 5) == 5);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return success();
}
