// run: start=1970-01-01T00:10:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:10:00Z on=static,i386 args=flowing bare=never
// run: start=2000-01-01T00:00:00Z rate=3600 monotonic=rate on=static args=fast bare=never
// run: start=1970-01-01T00:10:00Z autojump=yes on=static,i386 args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real args=bare bare=never
/* timerfd: single and periodic, relative and absolute, its count exact however far time goes on at
 * once; what is left of it; the wall clock that is set meanwhile. */
#include "elapse.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};

static int64_t from_ns; /* before timers are set */

static int open_timer(int clock, int flags)
{
    int fd = timerfd_create(clock, flags);
    CHECK(fd >= 0);
    return fd;
}

static void arm(int fd, int flags, int64_t value_ns, int64_t interval_ns)
{
    struct itimerspec spec = {timespec_of(interval_ns), timespec_of(value_ns)};
    CHECK(timerfd_settime(fd, flags, &spec, NULL) == 0);
}

static uint64_t read_count(int fd)
{
    uint64_t count = 0;
    CHECK(read(fd, &count, sizeof count) == sizeof count);
    return count;
}

static int is_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    struct timespec none = {0, 0};
    int count = ppoll(&poll_fd, 1, &none, NULL);
    CHECK(count >= 0 && (!count || poll_fd.revents == POLLIN));
    return count;
}

static void check_nothing(int fd)
{
    uint64_t count;
    int flags = fcntl(fd, F_GETFL);
    CHECK(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    CHECK(read(fd, &count, sizeof count) == -1 && errno == EAGAIN);
    CHECK(fcntl(fd, F_SETFL, flags) == 0);
    CHECK(!is_readable(fd));
}

/* As that, unless its time has come: a busy machine may have been late to ask. */
static void check_not_early(int fd, int64_t since_ns)
{
    if (is_readable(fd)) /* see CHECK_ELAPSED */
        CHECK(now_ns() - since_ns >= length_ns - (course == BARE ? 1000000 : 0));
}

/* Real time adds some. */
static void check_count(int fd, uint64_t expected)
{
    uint64_t count = read_count(fd);
    CHECK(count >= expected);
    if (is_exact())
        CHECK_EQUAL(count, expected);
    else if (course == FLOWING)
        CHECK(count <= expected + 1);
}

/* Nobody waits while it fires. */
static void check_single(int clock, int is_absolute)
{
    struct itimerspec left;
    int fd = open_timer(clock, TFD_CLOEXEC);
    CHECK(timerfd_gettime(fd, &left) == 0 && in_ns(left.it_value) == 0);
    check_nothing(fd);
    int64_t since_ns = now_ns();
    arm(fd, is_absolute ? TFD_TIMER_ABSTIME : 0, length_ns + (is_absolute ? clock_ns(clock) : 0), 0);
    CHECK(timerfd_gettime(fd, &left) == 0);
    CHECK_LEFT(in_ns(left.it_value), length_ns, 0);
    check_not_early(fd, since_ns);
    elapse(part_ns);
    check_not_early(fd, since_ns);
    CHECK(timerfd_gettime(fd, &left) == 0);
    CHECK_EQUAL(in_ns(left.it_interval), 0);
    if (course != BARE && course != FAST) {
        CHECK_LEFT(in_ns(left.it_value), length_ns, part_ns);
        check_nothing(fd);
    }
    elapse_past(length_ns - part_ns);
    CHECK(is_readable(fd));
    CHECK(timerfd_gettime(fd, &left) == 0 && in_ns(left.it_value) == 0);
    CHECK_EQUAL(read_count(fd), 1);
    check_nothing(fd);
    close(fd);
}

static void check_periodic(int clock, int is_absolute)
{
    struct itimerspec left;
    int fd = open_timer(clock, 0);
    int64_t period_ns = length_ns / 8;
    arm(fd, is_absolute ? TFD_TIMER_ABSTIME : 0, 2 * period_ns + (is_absolute ? clock_ns(clock) : 0), period_ns);
    elapse_past(length_ns); /* after 2, 3 ... 8 periods */
    CHECK(timerfd_gettime(fd, &left) == 0);
    CHECK_EQUAL(in_ns(left.it_interval), period_ns);
    /* 0 where the kernel has yet to see to an expiry (timerfd_get_remaining, fs/timerfd.c) */
    CHECK(in_ns(left.it_value) >= 0 && in_ns(left.it_value) <= period_ns);
    if (course == FROZEN)
        CHECK_EQUAL(in_ns(left.it_value), period_ns);
    check_count(fd, 7);
    if (course == FROZEN || course == FLOWING) {
        check_nothing(fd);
        for (int i = 0; i < 3; i++) /* what is not read adds up */
            elapse(period_ns);
        check_count(fd, 3);
        elapse(100 * period_ns);
        check_count(fd, 100);
        elapse(period_ns / 2);
        check_nothing(fd);
    }
    arm(fd, 0, 0, 0);
    elapse(length_ns);
    check_nothing(fd);
    close(fd);
}

/* A reader that waits sees each period when it comes. */
static struct {
    int fd;
    uint64_t counts, reads;
    volatile int done;
} reader;

static void *read_eight(void *unused)
{
    while (reader.counts < 8) {
        reader.counts += read_count(reader.fd);
        reader.reads++;
        CHECK_ELAPSED(now_ns() - from_ns, reader.counts * (length_ns / 8));
    }
    reader.done = 1;
    return unused;
}

static void check_reader(int clock)
{
    pthread_t thread;
    reader.fd = open_timer(clock, 0);
    reader.counts = reader.reads = reader.done = 0;
    from_ns = now_ns();
    arm(reader.fd, 0, length_ns / 8, length_ns / 8);
    if (is_asked()) {
        CHECK(pthread_create(&thread, NULL, read_eight, NULL) == 0);
        elapse(length_ns - 60 * NSEC_PER_SEC);
        CHECK(!reader.done);
        elapse(60 * NSEC_PER_SEC);
        CHECK(reader.done);
        CHECK(pthread_join(thread, NULL) == 0);
    } else {
        read_eight(NULL);
    }
    if (is_exact())
        CHECK_EQUAL(reader.reads, 8);
    close(reader.fd);
}

/* Several of them behind an epoll, whose own time is longer. */
static void *wait_for_events(void *epoll_fd)
{
    for (int i = 1; i <= 4; i++) {
        struct epoll_event event;
        CHECK_EQUAL(epoll_wait((intptr_t)epoll_fd, &event, 1, 100 * length_ns / 1000000), 1);
        CHECK_EQUAL(read_count(event.data.fd), 1);
        CHECK_ELAPSED(now_ns() - from_ns, i * (length_ns / 4));
    }
    return NULL;
}

static void check_epoll(void)
{
    pthread_t thread;
    int fds[4], epoll_fd = epoll_create1(0);
    for (int i = 0; i < 4; i++) {
        fds[i] = open_timer(clocks[i % 3], 0);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};
        CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i], &event) == 0);
    }
    CHECK(pthread_create(&thread, NULL, wait_for_events, (void *)(intptr_t)epoll_fd) == 0);
    from_ns = now_ns();
    for (int i = 0; i < 4; i++)
        arm(fds[i], 0, (i + 1) * (length_ns / 4), 0);
    if (is_asked())
        elapse(length_ns);
    CHECK(pthread_join(thread, NULL) == 0);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    close(epoll_fd);
}

static void check_past(int clock)
{
    int fd = open_timer(clock, 0);
    int64_t period_ns = course == BARE ? 1000000 : 20 * NSEC_PER_SEC;
    if (is_asked()) { /* before this machine has started, if that was not days ago */
        period_ns = 100000 * NSEC_PER_SEC;
        elapse(11 * period_ns);
    }
    arm(fd, TFD_TIMER_ABSTIME, clock_ns(clock) - 10 * period_ns - period_ns / 2, period_ns);
    check_count(fd, 11);
    arm(fd, TFD_TIMER_ABSTIME, 1, 0);
    CHECK_EQUAL(read_count(fd), 1);
    check_nothing(fd);
    close(fd);
}

static void check_changes(void)
{
    struct itimerspec old, spec = {timespec_of(0), timespec_of(length_ns)};
    uint64_t count;
    uint32_t half;
    int fd = open_timer(CLOCK_MONOTONIC, 0);
    arm(fd, 0, 3 * length_ns, 5 * length_ns);
    CHECK(timerfd_settime(fd, 0, &spec, &old) == 0);
    CHECK_LEFT(in_ns(old.it_value), 3 * length_ns, 0);
    CHECK_EQUAL(in_ns(old.it_interval), 5 * length_ns);
    elapse_past(length_ns);
    CHECK(is_readable(fd));
    CHECK(read(fd, &half, sizeof half) == -1 && errno == EINVAL);
    /* A count that nobody has read is gone when the timer is set anew. */
    CHECK(timerfd_settime(fd, 0, &spec, &old) == 0);
    CHECK_EQUAL(in_ns(old.it_value), 0);
    check_nothing(fd);

    spec.it_value.tv_nsec = NSEC_PER_SEC;
    CHECK(timerfd_settime(fd, 0, &spec, NULL) == -1 && errno == EINVAL);
    spec.it_value = (struct timespec){-1, 0};
    CHECK(timerfd_settime(fd, 0, &spec, NULL) == -1 && errno == EINVAL);
    spec = (struct itimerspec){{0, NSEC_PER_SEC}, {1, 0}};
    CHECK(timerfd_settime(fd, 0, &spec, NULL) == -1 && errno == EINVAL);
    spec.it_interval.tv_nsec = 0;
    CHECK(timerfd_settime(fd, 8, &spec, NULL) == -1 && errno == EINVAL);
    CHECK(timerfd_settime(0, 0, &spec, NULL) == -1 && errno == EINVAL);
    CHECK(timerfd_gettime(999, &spec) == -1 && errno == EBADF);
    CHECK(timerfd_create(CLOCK_TAI, 0) == -1 && errno == EINVAL);
    CHECK(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0) == -1 && errno == EINVAL);
    elapse_past(length_ns); /* the refused ones have changed nothing */
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
    close(fd);
}

static struct { int fd; volatile int error; } canceled;

static void *read_canceled(void *unused)
{
    uint64_t count;
    CHECK(read(canceled.fd, &count, sizeof count) == -1);
    canceled.error = errno;
    return unused;
}

/* The driver sets the wall clock, which is never the host's. */
static void check_cancel_on_set(void)
{
    int flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
    int64_t now = clock_ns(CLOCK_REALTIME);
    uint64_t count;
    pthread_t thread;
    int plain = open_timer(CLOCK_REALTIME, 0), other = open_timer(CLOCK_MONOTONIC, 0);
    int fd = open_timer(CLOCK_REALTIME, 0);
    canceled.fd = open_timer(CLOCK_REALTIME, 0);
    arm(plain, TFD_TIMER_ABSTIME, now + length_ns, 0);
    arm(fd, flags, now + length_ns, 0);
    arm(canceled.fd, flags, now + 100 * length_ns, 0);
    arm(other, TFD_TIMER_ABSTIME, now_ns() + 10 * length_ns, 0);
    CHECK(pthread_create(&thread, NULL, read_canceled, NULL) == 0);
    ask("ADVANCE", 60); /* time that passes is nobody who sets the clock */
    CHECK(!canceled.error && !is_readable(fd));
    ask("MOVE_TO", now / NSEC_PER_SEC + 600);
    CHECK_EQUAL(canceled.error, ECANCELED);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(is_readable(fd) && !is_readable(plain) && !is_readable(other));
    CHECK(read(fd, &count, sizeof count) == -1 && errno == ECANCELED);
    check_nothing(fd);
    ask("MOVE_TO", now / NSEC_PER_SEC - 600); /* back */
    CHECK(read(fd, &count, sizeof count) == -1 && errno == ECANCELED);
    check_nothing(fd);
    ask("MOVE_TO", (now + length_ns) / NSEC_PER_SEC + 1);
    CHECK_EQUAL(read_count(plain), 1);
    CHECK(is_readable(fd));
    close(plain);
    close(other);
    close(fd);
    close(canceled.fd);
}

/* Each of many, under another number and in another process too. */
static void check_many(void)
{
    enum { MANY = 200, FIRST_S = 1000000 };
    int fds[MANY], last = open_timer(CLOCK_MONOTONIC, 0);
    for (int i = 0; i < MANY; i++)
        fds[i] = open_timer(clocks[i % 3], 0);
    for (int i = 0; i < MANY; i++) { /* not in the order in which they were made */
        int at = i * 77 % MANY;
        arm(fds[at], 0, (FIRST_S + at) * NSEC_PER_SEC, 0);
    }
    for (int i = 0; i < MANY; i += 2) {
        CHECK(dup2(fds[i], last) == last && close(fds[i]) == 0);
        fds[i] = dup(last);
        CHECK(fds[i] >= 0);
    }
    pid_t child = fork();
    for (int i = 0; i < MANY; i++) {
        struct itimerspec left;
        CHECK(timerfd_gettime(fds[i], &left) == 0);
        int64_t left_s = left.it_value.tv_sec + (left.it_value.tv_nsec > 0);
        CHECK(left_s <= FIRST_S + i && left_s >= FIRST_S / 2);
        if (course == FROZEN)
            CHECK_EQUAL(left_s, FIRST_S + i);
        CHECK(child == 0 || close(fds[i]) == 0);
    }
    if (child == 0)
        _exit(0);
    check_child(child);
    CHECK(close(last) == 0);
}

int main(int argc, char **argv)
{
    (void)argc;
    read_course(argv, 24000000);
    for (int i = 0; i < 3; i++) {
        for (int is_absolute = 0; is_absolute < 2; is_absolute++) {
            check_single(clocks[i], is_absolute);
            check_periodic(clocks[i], is_absolute);
        }
        check_reader(clocks[i]);
        check_past(clocks[i]);
    }
    check_epoll();
    check_changes();
    check_many();
    if (is_asked())
        check_cancel_on_set();
    return success();
}
