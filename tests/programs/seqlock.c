// run: start=1970-01-01T00:00:00Z steps=1000 on=static,i386 bare=fails
/* Four threads read while the test advances by a second and a nanosecond at a time, so that seconds
 * and nanoseconds are equal in every instant there is: a torn reading shows. No reading is older
 * than one before it. Ends at the instant in MOVED_NS. */
#include "check.h"
#include <pthread.h>

static int64_t last_sec;
static pthread_barrier_t all_have_read;

static void *reader(void *unused)
{
    int64_t previous_ns = 0;
    struct timespec ts = {0, 0};
    unsigned different = 0;

    CHECK(clock_gettime(CLOCK_REALTIME, &ts) == 0);
    previous_ns = in_ns(ts);
    pthread_barrier_wait(&all_have_read);
    while (ts.tv_sec < last_sec) {
        CHECK(clock_gettime(CLOCK_REALTIME, &ts) == 0);
        CHECK_EQUAL(ts.tv_nsec, ts.tv_sec);
        CHECK(in_ns(ts) >= previous_ns);
        different += in_ns(ts) != previous_ns;
        previous_ns = in_ns(ts);
        CHECK(time(NULL) >= ts.tv_sec);
    }
    CHECK(different > 0);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[4];

    CHECK(argc == 3);
    last_sec = strtoll(argv[2], NULL, 10) / NSEC_PER_SEC;
    check_wall(start_ns(argv));
    CHECK(pthread_barrier_init(&all_have_read, NULL, 5) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, reader, NULL) == 0);
    pthread_barrier_wait(&all_have_read);
    CHECK(write(1, "MOVE\n", 5) == 5);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return success();
}
