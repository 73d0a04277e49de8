// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 args=flowing bare-args=bare bare=passes
// run: start=1970-01-01T00:00:00Z native=no args=flowing bare=never
// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare=never
// run: start=1970-01-01T00:00:00Z monotonic=freeze native=no args=frozen bare=never
// run: start=1970-01-01T00:00:00Z monotonic=freeze grace=0 args=frozen bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes on=static,dynamic,i386 args=jumping bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes native=no args=jumping bare=never
// run: start=1970-01-01T00:00:00Z autojump=0.005 args=jumping,without-microseconds bare=never
// run: start=2000-01-01T00:00:00Z rate=1 on=static,dynamic,i386 args=flowing bare=never
// run: start=2000-01-01T00:00:00Z rate=60 monotonic=rate on=static,dynamic,i386 args=flowing bare=never
/* Programs that look at a clock after each wait, and wait again for what is left: they find that the
 * time is later after a wait, and come to their end, never early and never much too late. Those that
 * wait for a microsecond a thousand times are left out where the clock does not jump at once. */
#include "elapse.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

#define MOST_LATE_NS 1100000
#define SHORT_NS 1000000 /* for waits of a microsecond each */
#define MOST_TURNS 100000

/* One who waits until a point of a clock. */
struct waiter {
    const char *what;
    void (*wait)(struct waiter *waiter, int64_t left_ns);
    clockid_t clock;
    int is_past; /* until the clock is past it */
    int is_short;
    int64_t end_ns;
    int64_t late_ns; /* when it found out */
    int turns;
    volatile int done;
};

static int epoll_fd;

static void by_ppoll(struct waiter *waiter, int64_t left_ns)
{
    struct timespec left = timespec_of(left_ns);
    (void)waiter;
    CHECK(ppoll(NULL, 0, &left, NULL) == 0);
}

static void by_nanosleep(struct waiter *waiter, int64_t left_ns)
{
    struct timespec left = timespec_of(left_ns);
    (void)waiter;
    CHECK(nanosleep(&left, NULL) == 0);
}

static void by_poll(struct waiter *waiter, int64_t left_ns)
{
    (void)waiter;
    CHECK(poll(NULL, 0, left_ns / 1000000) == 0);
}

static void by_epoll(struct waiter *waiter, int64_t left_ns)
{
    struct epoll_event event;
    (void)waiter;
    CHECK(epoll_wait(epoll_fd, &event, 1, left_ns / 1000000) == 0);
}

/* Whole milliseconds again, of which a struct timeval with nothing in it is left in the end. */
static void by_select(struct waiter *waiter, int64_t left_ns)
{
    int64_t left_ms = left_ns / 1000000;
    struct timeval left = {left_ms / 1000, left_ms % 1000 * 1000};
    (void)waiter;
    CHECK(select(0, NULL, NULL, NULL, &left) == 0);
}

static void by_condition(struct waiter *waiter, int64_t left_ns)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    struct timespec end = timespec_of(waiter->end_ns);
    (void)left_ns;
    CHECK(pthread_mutex_lock(&lock) == 0);
    CHECK_EQUAL(pthread_cond_timedwait(&cond, &lock, &end), ETIMEDOUT);
    CHECK(pthread_mutex_unlock(&lock) == 0);
}

static void by_microseconds(struct waiter *waiter, int64_t left_ns)
{
    (void)waiter, (void)left_ns;
    CHECK(usleep(1) == 0);
}

static void *run(void *argument)
{
    struct waiter *waiter = argument;
    for (;;) {
        int64_t left_ns = waiter->end_ns - clock_ns(waiter->clock);
        if (left_ns < 0 || (left_ns == 0 && !waiter->is_past)) {
            waiter->late_ns = -left_ns;
            break;
        }
        waiter->turns++;
        waiter->wait(waiter, left_ns);
    }
    waiter->done = 1;
    return NULL;
}

/* Where time flows between a look at the clock and the wait that begins then, a busy machine shows:
 * in the first turn, in which the driver has not been asked yet. */
static int64_t most_late_ns(const struct waiter *waiter)
{
    int is_flowing = course == FLOWING && (waiter->is_short || waiter->turns == 1);
    return is_flowing || course == BARE ? slack_ns() : MOST_LATE_NS;
}

static void try(char **argv, struct waiter waiter)
{
    pthread_t thread;
    if (waiter.is_short && argv[4])
        return;
    waiter.end_ns = clock_ns(waiter.clock) + (waiter.is_short ? SHORT_NS : length_ns);
    CHECK(pthread_create(&thread, NULL, run, &waiter) == 0);
    if (is_asked()) {
        elapse(length_ns + NSEC_PER_SEC);
        if (!waiter.done)
            dprintf(2, "%s: still waits after %d turns\n", waiter.what, waiter.turns);
        CHECK(waiter.done);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    if (waiter.late_ns >= most_late_ns(&waiter) || (course != BARE && waiter.turns > MOST_TURNS)) {
        dprintf(2, "%s: %lld ns late after %d turns\n", waiter.what, (long long)waiter.late_ns,
                waiter.turns);
        _exit(1);
    }
}

int main(int argc, char **argv)
{
    static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME};
    (void)argc;
    read_course(argv, 30000000);
    epoll_fd = epoll_create1(0);
    CHECK(epoll_fd >= 0);
    for (int i = 0; i < 2; i++) {
        clockid_t clock = clocks[i];
        for (int is_past = 0; is_past < 2; is_past++) {
            try(argv, (struct waiter){"ppoll", by_ppoll, clock, is_past, 0, 0, 0, 0, 0});
            try(argv, (struct waiter){"nanosleep", by_nanosleep, clock, is_past, 0, 0, 0, 0, 0});
            try(argv, (struct waiter){"poll", by_poll, clock, is_past, 0, 0, 0, 0, 0});
            try(argv, (struct waiter){"epoll_wait", by_epoll, clock, is_past, 0, 0, 0, 0, 0});
            try(argv, (struct waiter){"select", by_select, clock, is_past, 0, 0, 0, 0, 0});
            try(argv, (struct waiter){"usleep", by_microseconds, clock, is_past, 1, 0, 0, 0, 0});
        }
    }
    for (int is_past = 0; is_past < 2; is_past++)
        try(argv, (struct waiter){"pthread_cond_timedwait", by_condition, CLOCK_REALTIME, is_past, 0, 0, 0, 0, 0});
    return success();
}
