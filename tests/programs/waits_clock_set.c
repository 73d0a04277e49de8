// run: start=1970-01-01T00:01:40Z monotonic=freeze on=static,dynamic,i386 args=frozen bare=fails
// run: start=2038-01-19T03:14:00Z on=static,i386 args=flowing bare=never
// run: start=2000-01-01T00:00:00Z rate=1 monotonic=rate on=static,i386 args=flowing,ticking bare=never
/* When somebody sets the wall clock, only those notice who wait for a point of it: they go on when it
 * is set to that point or behind it, and not when it is set back. */
#include "elapse.h"
#include <mqueue.h>
#include <poll.h>
#include <sys/timerfd.h>

static int64_t from_sec; /* on the wall clock */
static mqd_t queue;

static struct timespec point(void)
{
    return (struct timespec){from_sec + length_ns / NSEC_PER_SEC, 0};
}

static void wait_on_wall_by_nanosleep(void)
{
    struct timespec end = point();
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &end, NULL), 0);
}

static void wait_on_wall_by_futex(void)
{
    uint32_t word = 0;
    struct timespec end = point();
    CHECK(syscall(SYS_futex, &word, 9 | 128 | 256, 0, &end, NULL, -1) == -1 && errno == ETIMEDOUT);
}

static void wait_on_wall_by_timerfd(void)
{
    uint64_t count;
    struct itimerspec spec = {.it_value = point()};
    int fd = timerfd_create(CLOCK_REALTIME, 0);
    CHECK(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
}

static void wait_on_wall_by_message(void)
{
    char letter[16];
    struct timespec end = point();
    CHECK(mq_timedreceive(queue, letter, sizeof letter, NULL, &end) == -1 && errno == ETIMEDOUT);
}

static void wait_on_wall_by_timer(void)
{
    sigset_t set;
    timer_t timer;
    int number;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec spec = {.it_value = point()};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(timer_create(CLOCK_REALTIME, &event, &timer) == 0);
    CHECK(timer_settime(timer, TIMER_ABSTIME, &spec, NULL) == 0);
    CHECK(sigwait(&set, &number) == 0 && number == SIGUSR1);
}

static void wait_on_monotonic(void)
{
    struct timespec end = timespec_of(now_ns() + length_ns);
    CHECK_EQUAL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL), 0);
}

/* Relative, whatever clock it names. */
static void wait_relative(void)
{
    struct timespec time = timespec_of(length_ns);
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, 0, &time, NULL), 0);
}

static void wait_by_poll(void)
{
    CHECK_EQUAL(poll(NULL, 0, length_ns / 1000000), 0);
}

static void wait_by_relative_timerfd(void)
{
    uint64_t count;
    struct itimerspec spec = {.it_value = timespec_of(length_ns)};
    int fd = timerfd_create(CLOCK_REALTIME, 0);
    CHECK(fd >= 0 && timerfd_settime(fd, 0, &spec, NULL) == 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
}

static void (*const waits[])(void) = {
    wait_on_wall_by_nanosleep, wait_on_wall_by_futex, wait_on_wall_by_timerfd, wait_on_wall_by_message,
    wait_on_wall_by_timer,
    wait_on_monotonic, wait_relative, wait_by_poll, wait_by_relative_timerfd,
};
enum { ON_WALL = 5, WAITS = sizeof waits / sizeof *waits };

static volatile int done[WAITS];

static void *run(void *number)
{
    waits[(intptr_t)number]();
    done[(intptr_t)number] = 1;
    return NULL;
}

static void check_done(int wall_is, int other_is)
{
    for (int i = 0; i < WAITS; i++)
        if (done[i] != (i < ON_WALL ? wall_is : other_is)) {
            dprintf(2, "wait %d: done is %d\n", i, done[i]);
            CHECK(!"done as it should be");
        }
}

static pthread_t threads[WAITS];

static void start_all(void)
{
    from_sec = time(NULL);
    for (int i = 0; i < WAITS; i++) {
        done[i] = 0;
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(intptr_t)i) == 0);
    }
    if (course != BARE)
        ask("ADVANCE", 0); /* all of them wait when this returns */
}

static void join_all(void)
{
    for (int i = 0; i < WAITS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(int argc, char **argv)
{
    char name[40];
    sigset_t set;
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 16};
    read_course(argv, 0);
    snprintf(name, sizeof name, "/vdsotime-%d", getpid());
    queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
    CHECK(queue != (mqd_t)-1 && mq_unlink(name) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int64_t length_sec = length_ns / NSEC_PER_SEC;

    /* Forward, to just before, then to the point itself. */
    start_all();
    ask("MOVE_TO", from_sec + length_sec - 60);
    CHECK_EQUAL(time(NULL), from_sec + length_sec - 60);
    check_done(0, 0);
    ask("MOVE_TO", from_sec + length_sec);
    check_done(1, 0);
    elapse(length_ns - 60 * NSEC_PER_SEC);
    check_done(1, 0);
    elapse(60 * NSEC_PER_SEC);
    check_done(1, 1);
    join_all();

    /* Far beyond it. */
    start_all();
    ask("MOVE_TO", from_sec + 100 * length_sec);
    check_done(1, 0);
    elapse(length_ns);
    check_done(1, 1);
    join_all();

    /* Back: who waits for the wall clock waits for longer; if that clock is frozen, what was left at
     * the start is enough. */
    start_all();
    ask("MOVE_TO", from_sec - 1800);
    check_done(0, 0);
    elapse(length_ns);
    if (argc == 5) {
        check_done(0, 1);
        elapse(1800 * NSEC_PER_SEC);
    }
    check_done(1, 1);
    join_all();
    return success();
}
