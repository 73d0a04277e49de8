// run: start=1970-01-01T00:00:00Z autojump=yes on=static,dynamic,i386 bare=passes
// run: start=1970-01-01T00:00:00Z autojump=yes native=no bare=never
// run: start=1970-01-01T00:00:00Z autojump=0.001 bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes stride=1h bare=never
/* Programs that look at the clock once after a wait, and rely on a kernel that wakes no sleeper at the very nanosecond:
 * `if (now() > deadline)`. So where the clock jumps by itself the time is later than each deadline, of waits and of
 * timers. */
#include "elapse.h"
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

enum { TURNS = 20 };
#define LENGTH_NS 7000000

static int epoll_fd, timer_fd;
static timer_t timer;
static sigset_t alarms;

static void by_nanosleep(int64_t end_ns)
{
    (void)end_ns;
    struct timespec length = timespec_of(LENGTH_NS);
    CHECK(nanosleep(&length, NULL) == 0);
}

static void until_a_point(int64_t end_ns)
{
    struct timespec end = timespec_of(end_ns);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == 0);
}

static void by_poll(int64_t end_ns)
{
    (void)end_ns;
    CHECK(poll(NULL, 0, LENGTH_NS / 1000000) == 0);
}

static void by_select(int64_t end_ns)
{
    (void)end_ns;
    struct timeval length = {0, LENGTH_NS / 1000};
    CHECK(select(0, NULL, NULL, NULL, &length) == 0);
}

static void by_epoll(int64_t end_ns)
{
    struct epoll_event event;
    (void)end_ns;
    CHECK(epoll_wait(epoll_fd, &event, 1, LENGTH_NS / 1000000) == 0);
}

static void by_signal_wait(int64_t end_ns)
{
    sigset_t none;
    struct timespec length = timespec_of(LENGTH_NS);
    (void)end_ns;
    sigemptyset(&none);
    CHECK(sigtimedwait(&none, NULL, &length) == -1 && errno == EAGAIN);
}

static void by_condition(int64_t end_ns)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    pthread_condattr_t attributes;
    struct timespec end = timespec_of(end_ns);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cond, &attributes);
    pthread_mutex_lock(&lock);
    CHECK(pthread_cond_timedwait(&cond, &lock, &end) == ETIMEDOUT);
    pthread_mutex_unlock(&lock);
}

static void by_timerfd(int64_t end_ns)
{
    struct itimerspec setting = {{0, 0}, timespec_of(end_ns)};
    uint64_t expirations;
    CHECK(timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &setting, NULL) == 0);
    CHECK(read(timer_fd, &expirations, sizeof expirations) == sizeof expirations && expirations == 1);
}

static void by_posix_timer(int64_t end_ns)
{
    struct itimerspec setting = {{0, 0}, timespec_of(end_ns)};
    CHECK(timer_settime(timer, TIMER_ABSTIME, &setting, NULL) == 0);
    CHECK(sigwaitinfo(&alarms, NULL) == SIGUSR1);
}

static void by_itimer(int64_t end_ns)
{
    struct itimerval setting = {{0, 0}, {0, LENGTH_NS / 1000}};
    (void)end_ns;
    CHECK(setitimer(ITIMER_REAL, &setting, NULL) == 0);
    CHECK(sigwaitinfo(&alarms, NULL) == SIGALRM);
}

/* As programs that ask only once. */
static void look_once(const char *what, void (*wait)(int64_t end_ns))
{
    for (int i = 0; i < TURNS; i++) {
        int64_t end_ns = now_ns() + LENGTH_NS;
        wait(end_ns);
        int64_t late_ns = now_ns() - end_ns;
        if (late_ns <= 0)
            dprintf(2, "%s: after the wait it is %lld ns after the deadline\n", what, (long long)late_ns);
        CHECK(late_ns > 0);
    }
}

int main(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGUSR1);
    sigaddset(&alarms, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &alarms, NULL) == 0);
    CHECK((epoll_fd = epoll_create1(0)) >= 0);
    CHECK((timer_fd = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    look_once("nanosleep", by_nanosleep);
    look_once("clock_nanosleep", until_a_point);
    look_once("poll", by_poll);
    look_once("select", by_select);
    look_once("epoll_wait", by_epoll);
    look_once("sigtimedwait", by_signal_wait);
    look_once("pthread_cond_timedwait", by_condition);
    look_once("timerfd", by_timerfd);
    look_once("timer_settime", by_posix_timer);
    look_once("setitimer", by_itimer);
    return success();
}
