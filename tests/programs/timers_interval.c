// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 args=flowing bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes on=static,i386 args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real args=bare bare=never
/* setitimer and alarm: when they fire and how often, what is left of them, what they interrupt. */
#include "elapse.h"
#include <poll.h>
#include <signal.h>

static volatile int fired;
static volatile int64_t fired_ns[64];

static void on_alarm(int number, siginfo_t *info, void *context)
{
    (void)context;
    CHECK(number == SIGALRM && info->si_code == SI_KERNEL);
    if (fired < 64)
        fired_ns[fired] = now_ns();
    fired++;
}

static struct itimerval interval_of(int64_t value_ns, int64_t interval_ns)
{
    struct timespec value = timespec_of(value_ns), interval = timespec_of(interval_ns);
    return (struct itimerval){{interval.tv_sec, interval.tv_nsec / 1000}, {value.tv_sec, value.tv_nsec / 1000}};
}

static int64_t timeval_ns(struct timeval tv)
{
    return tv.tv_sec * NSEC_PER_SEC + (int64_t)tv.tv_usec * 1000;
}

static void arm(int64_t value_ns, int64_t interval_ns)
{
    struct itimerval spec = interval_of(value_ns, interval_ns);
    fired = 0;
    CHECK(setitimer(ITIMER_REAL, &spec, NULL) == 0);
}

static int64_t left_ns(void)
{
    struct itimerval left;
    CHECK(getitimer(ITIMER_REAL, &left) == 0);
    return timeval_ns(left.it_value);
}

static void check_single(void)
{
    struct itimerval old, none = {0};
    int64_t from_ns = now_ns();
    CHECK_EQUAL(left_ns(), 0);
    arm(length_ns, 0);
    CHECK_LEFT(left_ns(), length_ns, 0);
    elapse(part_ns);
    CHECK_NOT_YET(fired);
    CHECK_LEFT(left_ns(), length_ns, part_ns);
    elapse_past(length_ns - part_ns);
    CHECK_EQUAL(fired, 1);
    CHECK_ELAPSED(fired_ns[0] - from_ns, length_ns);
    CHECK_EQUAL(left_ns(), 0);
    elapse(2 * length_ns);
    CHECK_EQUAL(fired, 1);

    /* Set anew, the old one is told; disarmed, it does not fire. */
    set_bare_length(5 * NSEC_PER_SEC);
    arm(length_ns, 3 * length_ns);
    elapse(part_ns);
    struct itimerval spec = interval_of(2 * length_ns, 0);
    CHECK(setitimer(ITIMER_REAL, &spec, &old) == 0);
    CHECK_LEFT(timeval_ns(old.it_value), length_ns, part_ns);
    CHECK_EQUAL(timeval_ns(old.it_interval), 3 * length_ns);
    elapse(course == BARE ? part_ns : length_ns);
    CHECK_EQUAL(fired, 0);
    CHECK(setitimer(ITIMER_REAL, &none, &old) == 0);
    CHECK_LEFT(timeval_ns(old.it_value), 2 * length_ns, course == BARE ? part_ns : length_ns);
    set_bare_length(40000000);
    elapse(2 * length_ns);
    CHECK_EQUAL(fired, 0);
}

static void check_periodic(void)
{
    int64_t from_ns = now_ns(), period_ns = length_ns / 4;
    struct itimerval old, none = {0};
    arm(2 * period_ns, period_ns);
    elapse_past(length_ns); /* after 2, 3 and 4 periods */
    if (is_exact())
        CHECK_EQUAL(fired, 3);
    CHECK(fired >= 1 && left_ns() <= period_ns);
    elapse(10 * period_ns);
    if (is_asked())
        CHECK(fired >= 13 && fired <= 14);
    CHECK(setitimer(ITIMER_REAL, &none, &old) == 0);
    CHECK_EQUAL(timeval_ns(old.it_interval), period_ns);
    for (int i = 0; i < fired && i < 64; i++)
        CHECK_ELAPSED(fired_ns[i] - from_ns, (i + 2) * period_ns);

    /* Signals that are blocked do not add up. */
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    arm(period_ns, period_ns);
    elapse(3 * length_ns);
    CHECK_EQUAL(fired, 0);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGALRM));
    CHECK(setitimer(ITIMER_REAL, &none, NULL) == 0);
    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
    CHECK_EQUAL(fired, 1);
}

/* What it interrupts: another process waits, so that the driver can be asked. */
static void check_interrupted(void (*wait)(int64_t from_ns))
{
    pid_t pid = fork();
    if (pid == 0) {
        int64_t from_ns = now_ns();
        arm(part_ns, 0);
        wait(from_ns);
        CHECK_EQUAL(fired, 1);
        CHECK_ELAPSED(now_ns() - from_ns, part_ns);
        _exit(0);
    }
    if (is_asked())
        elapse(part_ns);
    check_child(pid);
}

static void wait_by_nanosleep(int64_t from_ns)
{
    struct timespec time = timespec_of(length_ns), left;
    (void)from_ns;
    CHECK(nanosleep(&time, &left) == -1 && errno == EINTR);
    /* It has begun a little later than the timer. */
    CHECK_LEFT(in_ns(left), length_ns, part_ns - (course == FLOWING ? NSEC_PER_SEC : 0));
}

static void wait_by_poll(int64_t from_ns)
{
    (void)from_ns;
    CHECK(poll(NULL, 0, length_ns / 1000000) == -1 && errno == EINTR);
}

static void wait_by_pause(int64_t from_ns)
{
    (void)from_ns;
    CHECK(pause() == -1 && errno == EINTR);
}

static void wait_by_sigsuspend(int64_t from_ns)
{
    sigset_t none;
    (void)from_ns;
    sigemptyset(&none);
    CHECK(sigsuspend(&none) == -1 && errno == EINTR);
}

static void wait_by_sigtimedwait(int64_t from_ns)
{
    sigset_t set;
    siginfo_t info;
    struct timespec time = timespec_of(length_ns);
    (void)from_ns;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK_EQUAL(sigtimedwait(&set, &info, &time), SIGALRM);
    /* A handler is told as much under a clock too. */
    CHECK_EQUAL(info.si_code, course == BARE ? SI_KERNEL : SI_TIMER);
    fired = 1;
}

/* In whole seconds, rounded. */
static void check_alarm(void)
{
    int64_t from_ns = now_ns(), sec = course == BARE ? 1 : length_ns / NSEC_PER_SEC;
    fired = 0;
    CHECK_EQUAL(alarm(sec), 0);
    CHECK_LEFT(left_ns(), sec * NSEC_PER_SEC, 0);
    unsigned left = alarm(2 * sec);
    CHECK(left == sec || left == sec - 1);
    if (course == BARE) {
        CHECK_EQUAL(alarm(0), 2);
        return;
    }
    elapse(part_ns);
    left = alarm(sec);
    CHECK_LEFT(left * NSEC_PER_SEC, 2 * length_ns, part_ns);
    elapse(length_ns - 60 * NSEC_PER_SEC);
    CHECK_EQUAL(fired, 0);
    elapse_past(60 * NSEC_PER_SEC);
    CHECK_EQUAL(fired, 1);
    CHECK_ELAPSED(fired_ns[0] - from_ns, part_ns + length_ns);
    CHECK_EQUAL(alarm(sec), 0);
    CHECK(alarm(0) + 30 > sec);
    elapse(2 * length_ns);
    CHECK_EQUAL(fired, 1);
}

/* Those that count the processor's time count no other. */
static void check_processor_time(void)
{
    static const int kinds[] = {ITIMER_VIRTUAL, ITIMER_PROF};
    struct itimerval spec = {.it_value = {3600, 0}}, left, none = {0};
    for (int i = 0; i < 2; i++) {
        CHECK(setitimer(kinds[i], &spec, NULL) == 0);
        elapse(2 * length_ns);
        CHECK(getitimer(kinds[i], &left) == 0);
        CHECK(left.it_value.tv_sec >= 3590 && left.it_value.tv_sec <= 3600);
        CHECK(setitimer(kinds[i], &none, NULL) == 0);
    }
}

static void check_refused(void)
{
    struct itimerval odd = {.it_value = {1, 1000000}}, negative = {.it_value = {-1, 0}}, got;
    arm(length_ns, 0);
    CHECK(setitimer(ITIMER_REAL, &odd, NULL) == -1 && errno == EINVAL);
    CHECK(setitimer(ITIMER_REAL, &negative, NULL) == -1 && errno == EINVAL);
    CHECK(setitimer(99, &got, NULL) == -1 && errno == EINVAL);
    CHECK(getitimer(99, &got) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_setitimer, ITIMER_REAL, 8, NULL) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_getitimer, ITIMER_REAL, 8) == -1 && errno == EFAULT);
    CHECK_LEFT(left_ns(), length_ns, 0);
    /* No new value disarms. */
    CHECK(syscall(SYS_setitimer, ITIMER_REAL, NULL, NULL) == 0);
    CHECK_EQUAL(left_ns(), 0);
}

int main(int argc, char **argv)
{
    struct sigaction interrupts = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO};
    struct sigaction restarts = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_RESTART};
    (void)argc;
    read_course(argv, 40000000);
    CHECK(sigaction(SIGALRM, &restarts, NULL) == 0); /* while the driver is asked */
    check_single();
    check_periodic();
    check_alarm();
    check_processor_time();
    check_refused();
    CHECK(sigaction(SIGALRM, &interrupts, NULL) == 0);
    check_interrupted(wait_by_nanosleep);
    check_interrupted(wait_by_poll);
    check_interrupted(wait_by_pause);
    check_interrupted(wait_by_sigsuspend);
    check_interrupted(wait_by_sigtimedwait);
    return success();
}
