/* Waits, timers and wake-ups of a storm's programs. Each counts what it gets: none is lost, doubled or early. */
#ifndef STORM_WAITS_H
#define STORM_WAITS_H

#include "storm.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

enum { THREADS = 4, TICKS = 3, MAX_LOOKS = 50, TURNS = 10, TOKENS = 10, SIGNALS = 10, PARKINGS = 9 };

#define HOUR_NS (3600 * NSEC_PER_SEC)
#define LATE_NS (60 * NSEC_PER_SEC)
#define TICK_NS 20000000

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){ns / NSEC_PER_SEC, ns % NSEC_PER_SEC};
}

/* Whether one wait of so long, up to a point of CLOCK_MONOTONIC, was not interrupted by a stop (signal(7)). */
static int wait_by(unsigned way, int64_t length_ns, int64_t until_ns)
{
    struct timespec length = timespec_of(length_ns), until = timespec_of(until_ns);
    struct timeval parts = {length_ns / NSEC_PER_SEC, length_ns % NSEC_PER_SEC / 1000};
    struct pollfd none;
    struct epoll_event event;
    struct itimerspec once = {.it_value = until};
    uint64_t count = 1;
    int word = 0, fd = -1, result = 0, expected = 0, error = 0;
    sigset_t set;
    sigemptyset(&set);
    switch (way) {
    case 0:
        result = nanosleep(&length, NULL);
        break;
    case 1:
        result = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        break;
    case 2:
        result = ppoll(&none, 0, &length, NULL);
        break;
    case 3:
        result = select(0, NULL, NULL, NULL, &parts);
        break;
    case 4:
        fd = epoll_create1(EPOLL_CLOEXEC);
        result = epoll_wait(fd, &event, 1, (int)(length_ns / 1000000));
        break;
    case 5:
        sigaddset(&set, SIGRTMIN + 5);
        result = sigtimedwait(&set, NULL, &length);
        expected = -1, error = EAGAIN;
        break;
    case 6:
        result = syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, &length);
        expected = -1, error = ETIMEDOUT;
        break;
    case 7:
        result = syscall(SYS_futex, &word, 9 /* FUTEX_WAIT_BITSET */, 0, &until, NULL, -1);
        expected = -1, error = ETIMEDOUT;
        break;
    case 8:
        fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        CHECK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &once, NULL) == 0);
        result = read(fd, &count, sizeof count);
        expected = sizeof count;
        break;
    }
    int number = errno;
    if (fd >= 0)
        close(fd);
    errno = number;
    if (result == -1 && errno == EINTR)
        return 0;
    CHECK_EQUAL(result, expected);
    CHECK(result != -1 || errno == error);
    CHECK_EQUAL(count, 1);
    return 1;
}

/* Waits so long, and not much longer unless the clock has jumped. */
static void park(unsigned way, int64_t length_ns)
{
    int jumps = page->jumps; /* odd: it is about to */
    int64_t until_ns = now_ns() + length_ns;
    length_ns += way % PARKINGS == 3 || way % PARKINGS == 4 ? 999999 : 0; /* which are for whole units */
    while (!wait_by(way % PARKINGS, length_ns, until_ns))
        length_ns = until_ns > now_ns() ? until_ns - now_ns() + 999999 : 999999;
    int64_t late_ns = now_ns() - until_ns;
    if (is_visited)
        return;
    CHECK_EQUAL(late_ns < 0 ? late_ns : 0, 0);
    if (page->jumps == jumps && jumps % 2 == 0)
        CHECK_EQUAL(late_ns > LATE_NS ? late_ns : 0, 0);
}

static volatile sig_atomic_t ticks;

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

static void await_ticks(void)
{
    struct sigaction action = {.sa_handler = on_tick};
    struct itimerval once = {{0, 0}, {0, 1 + pick(5000)}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    for (int i = 0; i < TICKS; i++) {
        int64_t until_ns = now_ns() + once.it_value.tv_usec * 1000;
        sigset_t mask, none;
        sigemptyset(&none);
        sigemptyset(&mask);
        sigaddset(&mask, SIGALRM);
        CHECK(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
        CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
        while (ticks == i)
            CHECK(sigsuspend(&none) < 0 && errno == EINTR);
        CHECK_EQUAL(ticks, i + 1);
        check_not_before(until_ns);
    }
    sleep_ns(1 + pick(2000000));
    CHECK_EQUAL(ticks, TICKS);
}

/* A periodic timer: it has expired as often as it could since it was armed, never more often. That is told late where the
 * machine is, and then again by what comes next: so it is looked at until it is right. */
struct period {
    int64_t from_ns, to_ns, length_ns, count, sets;
};

static struct itimerspec begin_period(struct period *period)
{
    period->length_ns = TICK_NS + pick(TICK_NS);
    period->count = 0;
    struct timespec length = timespec_of(period->length_ns);
    period->sets = page->sets;
    period->from_ns = now_ns();
    return (struct itimerspec){length, length};
}

static int is_counted(struct period *period, int looks, int64_t more)
{
    CHECK(more > 0);
    period->count += more;
    int64_t most = (now_ns() - period->from_ns) / period->length_ns;
    if (is_visited || period->to_ns - period->from_ns > TICK_NS / 4)
        return looks == TICKS;
    if (page->sets == period->sets) /* what is read as a line is set, or at another rate, may be told again (limits.md) */
        CHECK_EQUAL(period->count > most ? period->count - most : 0, 0);
    if (looks == MAX_LOOKS)
        CHECK_EQUAL(period->count < most ? period->count - most : 0, 0);
    return looks >= TICKS && period->count >= most;
}

static void count_by_descriptor(void)
{
    uint64_t more;
    int looks = 0, failures = 0, fd = timerfd_create(CLOCK_MONOTONIC, pick(2) ? TFD_NONBLOCK : 0);
    struct period period;
    struct itimerspec often = begin_period(&period);
    CHECK(fd >= 0 && timerfd_settime(fd, 0, &often, NULL) == 0);
    period.to_ns = now_ns();
    do {
        struct pollfd ready = {fd, POLLIN, 0};
        while (poll(&ready, 1, 3600000) == 0)
            continue;
        if (looks < TICKS && pick(2))
            sleep_ns(1 + pick(2 * TICK_NS));
        ssize_t size = read(fd, &more, sizeof more);
        if (size < 0 && errno == EAGAIN && failures++ < MAX_LOOKS) {
            more = 0; /* as its clock is moved (limits.md): that comes back at once */
            continue;
        }
        CHECK(size == sizeof more);
    } while (!more || !is_counted(&period, ++looks, (int64_t)more));
}

static volatile sig_atomic_t expired;

static void on_expiration(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    CHECK(info->si_code == SI_TIMER && info->si_value.sival_int == 4711);
    expired += 1 + info->si_overrun;
}

static void count_by_signals(void)
{
    timer_t timer;
    sigset_t mask, none;
    int looks = 0;
    struct period period;
    struct sigaction action = {.sa_sigaction = on_expiration, .sa_flags = SA_SIGINFO};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3};
    event.sigev_value.sival_int = 4711;
    sigemptyset(&none);
    sigemptyset(&mask);
    sigaddset(&mask, SIGRTMIN + 3);
    CHECK(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
    CHECK(sigaction(SIGRTMIN + 3, &action, NULL) == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec often = begin_period(&period);
    CHECK(timer_settime(timer, 0, &often, NULL) == 0);
    period.to_ns = now_ns();
    do {
        if (looks < TICKS && pick(2))
            sleep_ns(1 + pick(2 * TICK_NS));
        expired = 0;
        while (!expired)
            CHECK(sigsuspend(&none) < 0 && errno == EINTR);
    } while (!is_counted(&period, ++looks, expired));
    CHECK(timer_delete(timer) == 0);
}

/* A child queues signals for its parent, which reads each of them once and in their order. */
static void queue_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 4);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    pid_t own = getpid(), child = fork();
    CHECK(fd >= 0 && child >= 0);
    if (child == 0) {
        end_with(own);
        for (int i = 0; i < SIGNALS; i++) {
            if (i % 3 == 0)
                sleep_ns(1 + pick(300000));
            CHECK(sigqueue(own, SIGRTMIN + 4, (union sigval){.sival_int = i}) == 0);
        }
        _exit(0);
    }
    for (int i = 0; i < SIGNALS; i++) {
        struct signalfd_siginfo info;
        struct pollfd ready = {fd, POLLIN, 0};
        while (poll(&ready, 1, 1 + (int)pick(1000)) == 0)
            continue;
        CHECK(read(fd, &info, sizeof info) == sizeof info);
        CHECK_EQUAL(info.ssi_int, i);
        CHECK_EQUAL(info.ssi_pid, child);
    }
    check_child(child);
    struct timespec nothing = {0, 0};
    CHECK(sigtimedwait(&set, NULL, &nothing) == -1 && errno == EAGAIN);
}

/* Each token is taken once: by a semaphore, and by an eventfd, both with timeouts. */
static sem_t semaphore;
static int tokens_fd;
static _Atomic int taken[2];

static void *giver(void *argument)
{
    uint64_t one = 1;
    for (int i = 0; i < TOKENS; i++) {
        if (i % 4 == 0)
            sleep_ns((int64_t)(uintptr_t)argument * 10000);
        CHECK(sem_post(&semaphore) == 0);
        CHECK(write(tokens_fd, &one, sizeof one) == sizeof one);
    }
    return NULL;
}

static void *taker(void *argument)
{
    for (int i = 0; i < TOKENS; i++) {
        struct timespec until;
        do {
            CHECK(clock_gettime(CLOCK_REALTIME, &until) == 0);
            until.tv_nsec = (until.tv_nsec + 300000) % NSEC_PER_SEC;
        } while (sem_timedwait(&semaphore, &until) < 0 && (errno == ETIMEDOUT || errno == EINTR));
        taken[0]++;
    }
    struct epoll_event event = {.events = EPOLLIN};
    int fd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epoll_ctl(fd, EPOLL_CTL_ADD, tokens_fd, &event) == 0);
    for (int i = 0; i < TOKENS;) {
        uint64_t one = 0;
        if (epoll_wait(fd, &event, 1, 1 + (int)(uintptr_t)argument) == 1 && read(tokens_fd, &one, sizeof one) > 0) {
            CHECK_EQUAL(one, 1);
            taken[1]++;
            i++;
        }
    }
    CHECK(close(fd) == 0);
    return NULL;
}

static void pass_tokens(void)
{
    pthread_t threads[THREADS];
    tokens_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    CHECK(tokens_fd >= 0 && sem_init(&semaphore, 0, 0) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, i % 2 ? giver : taker, (void *)(uintptr_t)(1 + pick(50))) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    uint64_t one;
    CHECK_EQUAL(taken[0], TOKENS * THREADS / 2);
    CHECK_EQUAL(taken[1], TOKENS * THREADS / 2);
    CHECK(sem_trywait(&semaphore) < 0 && errno == EAGAIN);
    CHECK(read(tokens_fd, &one, sizeof one) < 0 && errno == EAGAIN);
}

/* Two threads wake each other by turns, by one condition. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static int turn;

static void *take_turns(void *argument)
{
    int own = (int)(intptr_t)argument;
    CHECK(pthread_mutex_lock(&lock) == 0);
    for (int i = 0; i < TURNS; i++) {
        while (turn != own) {
            int64_t until_ns = now_ns() + 1000000 + pick(2) * HOUR_NS;
            struct timespec until = timespec_of(until_ns);
            int error = pthread_cond_timedwait(&changed, &lock, &until);
            CHECK(error == 0 || error == ETIMEDOUT);
            if (error)
                check_not_before(until_ns);
        }
        turn = !own;
        CHECK(pthread_cond_signal(&changed) == 0);
    }
    CHECK(pthread_mutex_unlock(&lock) == 0);
    return NULL;
}

static void pass_turns(void)
{
    pthread_t threads[2];
    pthread_condattr_t attributes;
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&changed, &attributes) == 0);
    for (intptr_t i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, take_turns, (void *)i) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

#endif
