// run: start=1970-01-01T00:00:00Z autojump=yes on=static,dynamic,i386 bare=passes
// run: start=1970-01-01T00:00:00Z autojump=yes native=no bare=never
// run: start=1970-01-01T00:00:00Z autojump=0.001 bare=never
// run: start=1970-01-01T00:00:00Z bare=never
// run: start=2000-01-01T00:00:00Z rate=1 bare=never
/* No wait ends before its time by the program's own clock, however short it is, alone and beside a
 * thread that is busy, or polls; and a program that waits for what is left comes to its end. */
#include "elapse.h"
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/timerfd.h>

enum company { NOBODY, BUSY, POLLING, COMPANIES };
enum { TURNS = 2, FUTEX_WAIT_PRIVATE_ = 128, FUTEX_WAIT_BITSET_PRIVATE_ = 9 | 128 };
#ifndef __i386__
#define FUTEX_NUMBER SYS_futex
#else
#define FUTEX_NUMBER 422 /* with 64-bit times */
#endif

static volatile int is_over;
static int epoll_fd;
static int is_frozen; /* the wall's line does not go on by itself */
static struct { int64_t sec, nsec; } pair;

static void *keep_busy(void *unused)
{
    while (!is_over)
        ;
    return unused;
}

static void *poll_often(void *unused)
{
    while (!is_over)
        sleep_ns(10000000);
    return unused;
}

static void set_pair(int64_t ns)
{
    pair.sec = ns / NSEC_PER_SEC;
    pair.nsec = ns % NSEC_PER_SEC;
}

static void by_nanosleep(int64_t ns)
{
    sleep_ns(ns);
}

static void by_sleep_until(int64_t ns)
{
    struct timespec end = timespec_of(now_ns() + ns);
    CHECK_EQUAL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL), 0);
}

static void by_ppoll(int64_t ns)
{
    struct timespec left = timespec_of(ns);
    CHECK(ppoll(NULL, 0, &left, NULL) == 0);
}

static void by_select(int64_t ns)
{
    struct timeval left = {ns / NSEC_PER_SEC, ns % NSEC_PER_SEC / 1000};
    CHECK(select(0, NULL, NULL, NULL, &left) == 0);
}

static void by_epoll(int64_t ns)
{
    struct epoll_event event;
    int64_t ms = (ns + 999999) / 1000000;
    CHECK(epoll_wait(epoll_fd, &event, 1, ms) == 0);
}

static void by_semaphore(int64_t ns)
{
    sem_t sem;
    struct timespec end = timespec_of(clock_ns(CLOCK_REALTIME) + ns);
    CHECK(sem_init(&sem, 0, 0) == 0);
    CHECK(sem_timedwait(&sem, &end) == -1 && errno == ETIMEDOUT);
}

static void by_condition(int64_t ns)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    pthread_condattr_t attributes;
    struct timespec end = timespec_of(now_ns() + ns);
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&cond, &attributes) == 0);
    CHECK(pthread_mutex_lock(&lock) == 0);
    CHECK_EQUAL(pthread_cond_timedwait(&cond, &lock, &end), ETIMEDOUT);
    CHECK(pthread_mutex_unlock(&lock) == 0);
}

static void by_futex(int64_t ns)
{
    uint32_t word = 0;
    set_pair(ns);
    CHECK(syscall(FUTEX_NUMBER, &word, FUTEX_WAIT_PRIVATE_, 0, &pair, NULL, 0) == -1);
    CHECK_EQUAL(errno, ETIMEDOUT);
}

static void by_futex_until(int64_t ns)
{
    uint32_t word = 0;
    set_pair(now_ns() + ns);
    CHECK(syscall(FUTEX_NUMBER, &word, FUTEX_WAIT_BITSET_PRIVATE_, 0, &pair, NULL, -1) == -1);
    CHECK_EQUAL(errno, ETIMEDOUT);
}

static void by_timerfd(int64_t ns)
{
    uint64_t count;
    struct itimerspec spec = {.it_value = timespec_of(ns)};
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    CHECK(fd >= 0 && timerfd_settime(fd, 0, &spec, NULL) == 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
    close(fd);
}

/* Until the point, then for what a computation that rounds says is left (shortspin). */
static void by_what_is_left(int64_t ns)
{
    int64_t end_ns = now_ns() + ns, turns = 0;
    sleep_ns(ns - 200);
    for (int64_t left_ns; (left_ns = end_ns - now_ns()) > 0; turns++)
        sleep_ns(left_ns);
    CHECK(turns < 1000);
}

/* In growing steps, of which the last is as long as what is left (a condition that Python waits for). */
static void by_growing_steps(int64_t ns)
{
    int64_t end_ns = now_ns() + ns, step_ns = 50000;
    for (int64_t left_ns; (left_ns = end_ns - now_ns()) > 0; step_ns *= 2)
        by_futex(step_ns < left_ns ? step_ns : left_ns);
}

static const struct {
    const char *name;
    void (*wait)(int64_t ns);
    int is_on_wall;
} ways[] = {
    {"nanosleep", by_nanosleep, 0},
    {"clock_nanosleep until", by_sleep_until, 0},
    {"ppoll", by_ppoll, 0},
    {"select", by_select, 0},
    {"epoll_wait", by_epoll, 0},
    {"sem_timedwait", by_semaphore, 1},
    {"pthread_cond_timedwait", by_condition, 0},
    {"futex", by_futex, 0},
    {"futex until", by_futex_until, 0},
    {"timerfd", by_timerfd, 0},
    {"what is left", by_what_is_left, 0},
    {"growing steps", by_growing_steps, 0},
};

static void wait_each_way(const char *company)
{
    static const int64_t lengths_ns[] = {1000, 100000, 1000000, 5000000, 19000000};
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        /* On a frozen wall it ends as its length has passed on the other line. */
        clockid_t clock = ways[i].is_on_wall && !is_frozen ? CLOCK_REALTIME : CLOCK_MONOTONIC;
        for (unsigned j = 0; j < sizeof lengths_ns / sizeof *lengths_ns; j++) {
            int64_t before_ns = clock_ns(clock), passed_ns = 0, early = 0;
            for (int turn = 0; turn < TURNS; turn++) {
                int64_t began_ns = clock_ns(clock);
                ways[i].wait(lengths_ns[j]);
                early += clock_ns(clock) - began_ns < lengths_ns[j];
                passed_ns = clock_ns(clock) - before_ns;
            }
            if (early == 0 && passed_ns >= TURNS * lengths_ns[j])
                continue;
            dprintf(2, "%s for %lld ns %s: %d of %d ended early; %lld ns passed\n", ways[i].name,
                    (long long)lengths_ns[j], company, (int)early, TURNS, (long long)passed_ns);
            _exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    static void *(*const companies[])(void *) = {NULL, keep_busy, poll_often};
    static const char *const names[] = {"alone", "beside a busy thread", "beside a polling thread"};
    CHECK(argc == 3);
    epoll_fd = epoll_create1(0);
    CHECK(epoll_fd >= 0);
    int64_t from_ns = clock_ns(CLOCK_REALTIME);
    sleep_ns(50000000);
    is_frozen = clock_ns(CLOCK_REALTIME) == from_ns;
    (void)start_ns(argv);
    for (enum company company = NOBODY; company < COMPANIES; company++) {
        pthread_t thread;
        is_over = 0;
        if (companies[company])
            CHECK(pthread_create(&thread, NULL, companies[company], NULL) == 0);
        wait_each_way(names[company]);
        is_over = 1;
        if (companies[company])
            CHECK(pthread_join(thread, NULL) == 0);
    }
    return success();
}
