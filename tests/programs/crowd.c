// run: autojump=yes on=static,dynamic,i386 args=jumping bare-args=bare bare=passes
// run: autojump=yes native=no args=jumping bare=never
// run: monotonic=freeze on=static,i386 args=frozen bare=never
// run: start=2000-01-01T00:00:00Z rate=1 on=static args=flowing bare=never
/* A crowd of threads that sleep for some microseconds again and again, as those do that poll for work,
 * beside others that sleep for up to a millisecond: no machine could wake each at its own instant. All
 * come to their end, no sleep is shorter than it says, and one that is longer ends when it should. */
#include "elapse.h"

enum { POLLERS = 50, WORKERS = 30, POLLS = 100, TASKS = 10 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int done;

static void sleep_at_least(int64_t ns)
{
    int64_t from = now_ns();
    sleep_ns(ns);
    CHECK(now_ns() - from >= ns);
}

static void *poll_for_work(void *unused)
{
    for (int i = 0; i < POLLS; i++)
        sleep_at_least(10000);
    return unused;
}

static void *work(void *number)
{
    unsigned seed = (uintptr_t)number + 1;
    for (int i = 0; i < TASKS; i++) {
        seed = seed * 1103515245 + 12345;
        sleep_at_least(1 + seed / 4 % 1000000);
        CHECK(pthread_mutex_lock(&lock) == 0);
        done++;
        CHECK(pthread_mutex_unlock(&lock) == 0);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[POLLERS + WORKERS];
    pthread_attr_t attributes;
    CHECK(argc >= 4);
    read_course(argv, NSEC_PER_SEC / 2);
    int64_t from = now_ns();
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 262144) == 0);
    for (intptr_t i = 0; i < POLLERS + WORKERS; i++)
        CHECK(pthread_create(&threads[i], &attributes, i < POLLERS ? poll_for_work : work, (void *)i) == 0);
    if (!is_asked()) {
        sleep_at_least(length_ns);
        CHECK_ELAPSED(now_ns() - from, length_ns);
    }
    for (int i = 0; i < POLLERS + WORKERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_EQUAL(done, WORKERS * TASKS);
    return success();
}
