// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 bare=passes
// run: start=2000-01-01T00:00:00Z rate=1 on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z monotonic=freeze on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=static bare=never
/* Times that no clock reaches: timers keep them as far as the kernel's own clocks go (KTIME_MAX), and waits end
 * with the signal that comes. */
#include "check.h"
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/timerfd.h>

#define KTIME_SEC_MAX 9223372036LL
#define CENTURY 3155760000LL /* more than any machine has been up */

static const int64_t seconds[] = {0, 1, 100000, INT32_MAX, INT32_MAX + 1LL, UINT32_MAX + 1LL, KTIME_SEC_MAX,
                                  KTIME_SEC_MAX + 1, 1LL << 40, INT64_MAX - 1, INT64_MAX, -1, INT64_MIN};
#define COUNT (sizeof seconds / sizeof *seconds)

static int64_t kept(int64_t given)
{
    return given < KTIME_SEC_MAX ? given : KTIME_SEC_MAX;
}

/* What is left of `given`, and the interval. */
static void check_left(struct itimerspec got, int64_t given, int64_t interval)
{
    if (!given || sizeof(time_t) < 8) /* 32 bits are cut, whatever they hold */
        return;
    CHECK_EQUAL(got.it_interval.tv_sec, kept(interval));
    CHECK(got.it_value.tv_sec <= kept(given));
    CHECK(got.it_value.tv_sec >= kept(given) - (given > CENTURY ? CENTURY : 50000));
}

static void check_timers(int64_t given, int64_t interval)
{
    int is_valid = given >= 0 && interval >= 0;
    struct itimerspec spec = {{interval, 0}, {given, 999999999}}, got;
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    timer_t timer;
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    CHECK(fd >= 0 && timer_create(CLOCK_MONOTONIC, &none, &timer) == 0);
    CHECK_EQUAL(timer_settime(timer, 0, &spec, NULL), is_valid ? 0 : -1);
    CHECK(timer_gettime(timer, &got) == 0);
    if (is_valid)
        check_left(got, given, interval);
    CHECK_EQUAL(timerfd_settime(fd, 0, &spec, NULL), is_valid ? 0 : -1);
    CHECK(timerfd_gettime(fd, &got) == 0);
    if (is_valid)
        check_left(got, given, interval);
    CHECK(timer_delete(timer) == 0 && close(fd) == 0);
}

static void check_itimer(int64_t given, int64_t interval)
{
    struct { int64_t interval, interval_us, value, value_us; } spec = {interval, 0, given, 999999}, got;
    if (sizeof(long) < 8)
        return; /* there are none with more than 32 bits */
    int is_valid = given >= 0 && interval >= 0;
    CHECK_EQUAL(syscall(SYS_setitimer, ITIMER_REAL, &spec, NULL), is_valid ? 0 : -1);
    CHECK(syscall(SYS_getitimer, ITIMER_REAL, &got) == 0);
    if (is_valid)
        check_left((struct itimerspec){{got.interval, 0}, {got.value, 0}}, given, interval);
    spec.value = spec.value_us = 0;
    spec.interval = 0;
    CHECK(syscall(SYS_setitimer, ITIMER_REAL, &spec, NULL) == 0);
}

static void on_signal(int number) { (void)number; }

/* Each ends with the next signal, or at once because it makes no sense. */
static void check_waits(int64_t given)
{
    struct timespec time = {given, 5}, rest = {0, 0};
    struct timeval val = {given, 5};
    int64_t length = time.tv_sec; /* which may hold less */
    int is_valid = length >= 0, is_over = length < 100000;
    int word = 0;
    if (is_over && is_valid)
        return;
    CHECK(nanosleep(&time, &rest) == -1);
    CHECK_EQUAL(errno, is_valid ? EINTR : EINVAL);
    if (is_valid)
        CHECK(rest.tv_sec > 90000);
    for (int clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++)
        CHECK_EQUAL(clock_nanosleep(clock, 0, &time, &rest), is_valid ? EINTR : EINVAL);
    if (length > CENTURY || !is_valid) /* else it may lie in the past */
        for (int clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++)
            CHECK_EQUAL(clock_nanosleep(clock, TIMER_ABSTIME, &time, NULL), is_valid ? EINTR : EINVAL);
    CHECK(ppoll(NULL, 0, &time, NULL) == -1);
    CHECK_EQUAL(errno, is_valid ? EINTR : EINVAL);
    CHECK(select(0, NULL, NULL, NULL, &val) == -1);
    CHECK_EQUAL(errno, is_valid ? EINTR : EINVAL);
    CHECK(pselect(0, NULL, NULL, NULL, &time, NULL) == -1);
    CHECK_EQUAL(errno, is_valid ? EINTR : EINVAL);
    CHECK(syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, &time, NULL, 0) == -1);
    CHECK_EQUAL(errno, is_valid ? EINTR : EINVAL);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    pid_t parent = getpid();
    (void)argc, (void)argv;
    for (size_t i = 0; i < COUNT; i++)
        for (size_t j = 0; j < COUNT; j++) {
            check_timers(seconds[i], seconds[j]);
            check_itimer(seconds[i], seconds[j]);
        }
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pid_t child = fork();
    if (!child)
        for (struct timespec pause = {0, 2000000};; nanosleep(&pause, NULL))
            if (kill(parent, SIGUSR1) != 0 || getppid() != parent)
                _exit(0);
    for (size_t i = 0; i < COUNT; i++)
        check_waits(seconds[i]);
    CHECK(poll(NULL, 0, INT_MAX) == -1 && errno == EINTR);
    CHECK(poll(NULL, 0, INT_MIN) == -1 && errno == EINTR);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    CHECK_EQUAL(alarm(INT_MAX), 0);
    CHECK(alarm(0) > INT_MAX - 2000000);
    return success();
}
