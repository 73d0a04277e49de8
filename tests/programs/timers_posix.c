// run: start=1970-01-01T00:10:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:10:00Z on=static,dynamic,i386 args=flowing bare=never
// run: start=1970-01-01T00:10:00Z autojump=yes on=static,dynamic,i386 args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real args=bare bare=never
/* timer_create and its kin: what they send to whom and when, how often they would have, what is left
 * of them. */
#include "elapse.h"
#include <signal.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI};
static sigset_t set;

static volatile int users, timers;

static timer_t create(int clock, int notify, int value)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = notify, .sigev_signo = SIGUSR1, .sigev_value.sival_int = value};
    CHECK(timer_create(clock, &event, &timer) == 0);
    return timer;
}

static void arm(timer_t timer, int flags, int64_t value_ns, int64_t interval_ns)
{
    struct itimerspec spec = {timespec_of(interval_ns), timespec_of(value_ns)};
    CHECK(timer_settime(timer, flags, &spec, NULL) == 0);
}

static int64_t left_ns(timer_t timer)
{
    struct itimerspec left;
    CHECK(timer_gettime(timer, &left) == 0);
    return in_ns(left.it_value);
}

/* Takes a signal that is pending; its number is 0 if there is none. */
static siginfo_t take(void)
{
    siginfo_t info = {0};
    struct timespec none = {0, 0};
    if (sigtimedwait(&set, &info, &none) == -1)
        CHECK(errno == EAGAIN);
    return info;
}

static siginfo_t wait_for_signal(void)
{
    siginfo_t info;
    CHECK(sigwaitinfo(&set, &info) == SIGUSR1);
    return info;
}

/* What sigwaitinfo takes says how often its timer had expired when it was sent; under a clock, that has
 * not grown since, and timer_getoverrun knows. */
static int overrun_of(timer_t timer, siginfo_t info)
{
    int overrun = timer_getoverrun(timer);
    if (course == BARE)
        CHECK_EQUAL(overrun, info.si_overrun);
    return overrun;
}

static void check_overrun(int overrun, int expected)
{
    CHECK(overrun >= expected);
    if (is_exact())
        CHECK_EQUAL(overrun, expected);
}

static void check_single(int clock, int is_absolute)
{
    timer_t timer = create(clock, SIGEV_SIGNAL, 4711);
    CHECK_EQUAL(left_ns(timer), 0);
    arm(timer, is_absolute ? TIMER_ABSTIME : 0, length_ns + (is_absolute ? clock_ns(clock) : 0), 0);
    CHECK_LEFT(left_ns(timer), length_ns, 0);
    elapse(part_ns);
    if (course != BARE) {
        CHECK_EQUAL(take().si_signo, 0);
        CHECK_LEFT(left_ns(timer), length_ns, part_ns);
    }
    elapse_past(length_ns - part_ns);
    siginfo_t info = course == BARE ? wait_for_signal() : take();
    CHECK_EQUAL(info.si_signo, SIGUSR1);
    CHECK_EQUAL(info.si_code, SI_TIMER);
    CHECK_EQUAL(info.si_value.sival_int, 4711);
    CHECK_EQUAL(info.si_overrun, 0);
    CHECK_EQUAL(timer_getoverrun(timer), 0);
    CHECK_EQUAL(left_ns(timer), 0);
    elapse(2 * length_ns);
    CHECK_EQUAL(take().si_signo, 0);
    CHECK(timer_delete(timer) == 0);
}

/* A signal is pending once, whatever number of periods has passed; it tells of the others. */
static void check_overruns(int clock, int is_absolute)
{
    int64_t period_ns = length_ns / 8;
    struct itimerspec left;
    timer_t timer = create(clock, SIGEV_SIGNAL, 1);
    arm(timer, is_absolute ? TIMER_ABSTIME : 0, 2 * period_ns + (is_absolute ? clock_ns(clock) : 0), period_ns);
    elapse_past(length_ns); /* after 2, 3 ... 8 periods */
    CHECK(timer_gettime(timer, &left) == 0);
    CHECK_EQUAL(in_ns(left.it_interval), period_ns);
    CHECK(in_ns(left.it_value) > 0 && in_ns(left.it_value) <= period_ns);
    siginfo_t info = wait_for_signal();
    check_overrun(overrun_of(timer, info), 6);
    if (is_asked()) {
        elapse(2 * period_ns);
        check_overrun(overrun_of(timer, take()), 1);
        elapse(period_ns / 2);
        CHECK_EQUAL(take().si_signo, 0);
        elapse(100 * period_ns);
        check_overrun(overrun_of(timer, take()), 99);
    }
    arm(timer, 0, 0, 0);
    if (course == BARE)
        take(); /* on a busy machine: what came meanwhile */
    elapse(length_ns);
    CHECK_EQUAL(take().si_signo, 0);
    CHECK(timer_delete(timer) == 0);
}

/* One that is not blocked comes at each period. */
static volatile int handled;
static volatile int64_t handled_ns[64];

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    users += info->si_code == SI_USER;
    timers += info->si_code == SI_TIMER;
    if (info->si_code == SI_USER || info->si_value.sival_int == 3)
        return;
    CHECK(number == SIGUSR1 && info->si_code == SI_TIMER && info->si_value.sival_int == 5);
    if (handled < 64)
        handled_ns[handled] = now_ns();
    handled += 1 + info->si_overrun;
}

static void check_handler(void)
{
    int64_t from_ns = now_ns(), period_ns = length_ns / 8;
    timer_t timer = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, 5);
    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
    arm(timer, 0, period_ns, period_ns);
    elapse_past(length_ns);
    arm(timer, 0, 0, 0);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(handled >= 7); /* a real one may be late */
    if (course != BARE) {
        CHECK_EQUAL(handled, 8);
        for (int i = 0; i < handled; i++)
            CHECK_ELAPSED(handled_ns[i] - from_ns, (i + 1) * period_ns);
    }
    CHECK(timer_delete(timer) == 0);
}

/* To one thread, whatever others might take it. */
static volatile pid_t receiver;
static volatile int received;
static int64_t received_ns;

static void *receive(void *unused)
{
    siginfo_t info;
    receiver = gettid();
    CHECK(sigwaitinfo(&set, &info) == SIGUSR1);
    received_ns = now_ns();
    received = info.si_value.sival_int;
    return unused;
}

static void check_thread_id(void)
{
    pthread_t thread;
    timer_t timer;
    struct timespec pause = {0, 100000};
    CHECK(pthread_create(&thread, NULL, receive, NULL) == 0);
    while (!receiver)
        nanosleep(&pause, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    event.sigev_notify_thread_id = receiver;
    int64_t from_ns = now_ns();
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    arm(timer, 0, length_ns, 0);
    if (course != BARE) {
        elapse(length_ns - 60 * NSEC_PER_SEC);
        CHECK(!received);
        elapse(60 * NSEC_PER_SEC);
    }
    if (is_asked())
        CHECK_EQUAL(received, 77);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(received, 77);
    CHECK_ELAPSED(received_ns - from_ns, length_ns);
    CHECK(timer_delete(timer) == 0);
}

/* The C library calls a function in a thread of its own. */
static volatile int called;
static volatile int64_t called_ns[16];

static void on_timer(union sigval value)
{
    CHECK(value.sival_int == 6);
    if (called < 16)
        called_ns[called] = now_ns();
    called++;
}

static void check_thread(void)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_timer,
                             .sigev_value.sival_int = 6};
    int64_t from_ns = now_ns(), period_ns = length_ns / 4;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    arm(timer, 0, period_ns, period_ns);
    elapse_past(length_ns);
    while (course == BARE && called < 2) /* on a busy machine */
        elapse(part_ns);
    arm(timer, 0, 0, 0);
    if (course == BARE)
        elapse(length_ns);
    CHECK(called >= 2);
    if (course != BARE)
        CHECK_EQUAL(called, 4);
    for (int i = 0; i < called && i < 16; i++)
        CHECK_ELAPSED(called_ns[i] - from_ns, (i + 1) * period_ns);
    CHECK(timer_delete(timer) == 0);
}

/* Nobody is told; it can be asked. */
static void check_none(void)
{
    int64_t period_ns = length_ns / 4;
    timer_t timer = create(CLOCK_MONOTONIC, SIGEV_NONE, 0);
    arm(timer, 0, length_ns, 0);
    elapse(part_ns);
    if (course != BARE)
        CHECK_LEFT(left_ns(timer), length_ns, part_ns);
    elapse_past(length_ns - part_ns);
    CHECK_EQUAL(left_ns(timer), 0);
    arm(timer, 0, length_ns, period_ns);
    elapse(length_ns + period_ns / 2);
    if (course == BARE)
        CHECK(left_ns(timer) <= period_ns);
    else
        CHECK_LEFT(left_ns(timer), period_ns, period_ns / 2);
    CHECK_EQUAL(timer_getoverrun(timer), 0);
    CHECK_EQUAL(take().si_signo, 0);
    CHECK(timer_delete(timer) == 0);
}

static void check_past(int clock)
{
    int64_t now = clock_ns(clock), period_ns = course == BARE ? 1000000 : 20 * NSEC_PER_SEC;
    timer_t timer = create(clock, SIGEV_SIGNAL, 1);
    arm(timer, TIMER_ABSTIME, now - 10 * period_ns - period_ns / 2, period_ns);
    check_overrun(overrun_of(timer, wait_for_signal()), 10);
    arm(timer, 0, 0, 0);
    if (course == BARE)
        take(); /* that of a period that has passed since */
    arm(timer, TIMER_ABSTIME, 1, 0);
    CHECK_EQUAL(overrun_of(timer, wait_for_signal()), 0);
    CHECK(timer_delete(timer) == 0);
}

/* However often it has expired, no more than INT_MAX is told. */
static void check_most_overruns(void)
{
    timer_t timer = create(CLOCK_REALTIME, SIGEV_SIGNAL, 1);
    arm(timer, TIMER_ABSTIME, clock_ns(CLOCK_REALTIME) - 4 * NSEC_PER_SEC, 1);
    siginfo_t info = wait_for_signal();
    CHECK_EQUAL(timer_getoverrun(timer), INT32_MAX);
    arm(timer, 0, 0, 0);
    CHECK_EQUAL(timer_getoverrun(timer), 0);
    if (course == BARE)
        take();
    else
        CHECK_EQUAL(info.si_overrun, INT32_MAX);
    if (is_asked()) {
        int64_t now = clock_ns(CLOCK_REALTIME);
        arm(timer, TIMER_ABSTIME, now + 60 * NSEC_PER_SEC, 1000000);
        ask("MOVE_TO", now / NSEC_PER_SEC + 30 * 86400);
        info = wait_for_signal();
        CHECK_EQUAL(timer_getoverrun(timer), INT32_MAX);
        CHECK_EQUAL(info.si_value.sival_int, 1);
    }
    CHECK(timer_delete(timer) == 0);
}

/* One whose number is pending already is queued beside it, and counts from its own first expiration. Until
 * it is taken timer_getoverrun tells of the one before. */
static void check_pending(int is_handled)
{
    siginfo_t info;
    int64_t period_ns = length_ns / 8;
    timer_t timer = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, 3);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    arm(timer, 0, period_ns, period_ns);
    elapse_past(3 * period_ns);
    CHECK_EQUAL(timer_getoverrun(timer), 0);
    if (is_handled) { /* the one signal behind the other, at once */
        users = timers = 0;
        CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
        CHECK_EQUAL(users, 1);
        CHECK_EQUAL(timers > 0, 1);
    } else {
        CHECK_EQUAL(wait_for_signal().si_code, SI_USER);
        info = take();
        CHECK_EQUAL(info.si_code, SI_TIMER);
        CHECK_EQUAL(info.si_value.sival_int, 3);
    }
    if (!is_handled || timers == 1) /* on a busy machine a real one comes once more meanwhile */
        check_overrun(timer_getoverrun(timer), 2);
    arm(timer, 0, 0, 0);
    if (course == BARE)
        take();
    CHECK(timer_delete(timer) == 0);
}

/* Those of real-time signals are queued one behind the other, as are those of several timers. */
static void check_queue(void)
{
    sigset_t several;
    siginfo_t info;
    timer_t all[3];
    sigemptyset(&several);
    sigaddset(&several, SIGRTMIN + 1);
    CHECK(sigprocmask(SIG_BLOCK, &several, NULL) == 0);
    CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 9}) == 0);
    for (int i = 0; i < 3; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = i};
        CHECK(timer_create(CLOCK_MONOTONIC, &event, &all[i]) == 0);
        arm(all[i], 0, length_ns + i, 0);
    }
    elapse_past(length_ns + (course == BARE ? part_ns : NSEC_PER_SEC));
    CHECK(sigwaitinfo(&several, &info) == SIGRTMIN + 1 && info.si_value.sival_int == 9);
    for (int i = 0; i < 3; i++) {
        CHECK(sigwaitinfo(&several, &info) == SIGRTMIN + 1);
        CHECK_EQUAL(info.si_value.sival_int, i);
        CHECK_EQUAL(timer_getoverrun(all[i]), 0);
        CHECK(timer_delete(all[i]) == 0);
    }
}

static void check_changes(void)
{
    struct itimerspec old, spec = {timespec_of(0), timespec_of(length_ns)};
    timer_t timer = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, 2), plain;
    arm(timer, 0, 3 * length_ns, 5 * length_ns);
    CHECK(timer_settime(timer, 0, &spec, &old) == 0);
    CHECK_LEFT(in_ns(old.it_value), 3 * length_ns, 0);
    CHECK_EQUAL(in_ns(old.it_interval), 5 * length_ns);
    spec.it_value.tv_nsec = NSEC_PER_SEC;
    CHECK(timer_settime(timer, 0, &spec, NULL) == -1 && errno == EINVAL);
    spec.it_value = (struct timespec){-1, 0};
    CHECK(timer_settime(timer, 0, &spec, NULL) == -1 && errno == EINVAL);
    elapse_past(length_ns); /* the refused ones have changed nothing */
    CHECK_EQUAL(wait_for_signal().si_value.sival_int, 2);
    arm(timer, 0, length_ns, 0);
    CHECK(timer_delete(timer) == 0);
    elapse(2 * length_ns);
    CHECK_EQUAL(take().si_signo, 0);
    CHECK(timer_create(100, NULL, &plain) == -1 && errno == EINVAL);

    /* Without an event it is SIGALRM. */
    siginfo_t info;
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &alarm, NULL) == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, NULL, &plain) == 0);
    arm(plain, 0, length_ns, 0);
    elapse_past(length_ns);
    CHECK(sigwaitinfo(&alarm, &info) == SIGALRM);
    CHECK_EQUAL(info.si_code, SI_TIMER);
    CHECK(timer_delete(plain) == 0);
}

/* One that counts the processor's time counts no other. */
static void check_processor_time(void)
{
    timer_t timer = create(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, 1);
    arm(timer, 0, 3600 * NSEC_PER_SEC, 0);
    elapse(2 * length_ns);
    CHECK(left_ns(timer) > 3590 * NSEC_PER_SEC);
    CHECK_EQUAL(take().si_signo, 0);
    CHECK(timer_delete(timer) == 0);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    (void)argc;
    read_course(argv, 24000000);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int i = 0; i < 4; i++) {
        for (int is_absolute = 0; is_absolute < 2; is_absolute++) {
            check_single(clocks[i], is_absolute);
            check_overruns(clocks[i], is_absolute);
        }
        check_past(clocks[i]);
    }
    check_handler();
    check_thread_id();
    check_none();
    check_changes();
    check_processor_time();
    check_pending(0);
    check_pending(1);
    check_queue();
    check_most_overruns();
    check_thread(); /* its thread may stay */
    return success();
}
