// run: start=2000-01-01T00:00:00.123456789Z monotonic=freeze as=root on=static,dynamic,i386 bare=never
// run: start=2000-01-01T00:00:00Z rate=1 monotonic=freeze as=root on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z monotonic=freeze as=root on=static,i386 args=passing bare=never
// run: machine=x86_64 start=2000-01-01T00:00:00Z monotonic=freeze as=root args=int80 bare=never
/* What root sets by adjtimex(2) has the kernel's ranges, and each program of the clock reads it back;
 * what the kernel refuses changes nothing. By each system call that takes a struct timex, and whatever
 * stands between and behind its fields. It never runs bare: the host's clock would move. */
#include "timex.h"
#include <signal.h>

/* In another process. */
static void check_elsewhere(int one, int64_t expected)
{
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(look() >= 0);
        CHECK_EQUAL(field[one], expected);
        _exit(0);
    }
    check_child(pid);
}

static void sets(unsigned modes, int one, int64_t given, int64_t expected)
{
    CHECK(set(modes, one, given) >= 0);
    CHECK_EQUAL(field[one], expected);
    CHECK(look() >= 0);
    CHECK_EQUAL(field[one], expected);
}

static void refuses(unsigned modes, int one, int64_t given, int error)
{
    int64_t before[FIELDS];
    CHECK(look() >= 0);
    memcpy(before, field, sizeof field);
    CHECK_EQUAL(set(modes, one, given), -error);
    CHECK(look() >= 0);
    for (int i = 0; i < FIELDS; i++)
        if (i != SECONDS && i != FRACTION)
            CHECK_EQUAL(field[i], before[i]);
}

static void check_status(void)
{
    CHECK(set(ADJ_MAXERROR, MAXERROR, 1000) >= 0);
    CHECK_EQUAL(set(ADJ_STATUS, STATUS, STA_UNSYNC), TIME_ERROR);
    CHECK_EQUAL(look(), TIME_ERROR);
    CHECK_EQUAL(set(ADJ_STATUS, STATUS, STA_PLL | STA_FREQHOLD), TIME_OK);
    CHECK_EQUAL(look(), TIME_OK);
    CHECK_EQUAL(field[STATUS], STA_PLL | STA_FREQHOLD);
    CHECK_EQUAL(field[PRECISION], 1);
    CHECK_EQUAL(field[TOLERANCE], MAX_FREQ);
    check_time();

    sets(ADJ_NANO, STATUS, 0, STA_PLL | STA_FREQHOLD | STA_NANO);
    check_time();
    sets(ADJ_STATUS, STATUS, STA_PLL | STA_FLL, STA_PLL | STA_FLL | STA_NANO); /* read-only bits stay */
    sets(ADJ_STATUS | ADJ_MICRO, STATUS, 0xff00 | STA_PLL, STA_PLL);
    sets(ADJ_NANO | ADJ_MICRO, STATUS, 0, STA_PLL);
    sets(ADJ_NANO, STATUS, 0, STA_PLL | STA_NANO);
    sets(ADJ_STATUS, STATUS, STA_FLL, STA_FLL); /* these go with STA_PLL */
    sets(0x40, STATUS, 0, STA_FLL); /* no such mode */
}

static void check_ranges(void)
{
    refuses(ADJ_TICK, TICK, 8999, EINVAL);
    refuses(ADJ_TICK, TICK, 11001, EINVAL);
    refuses(ADJ_TICK, TICK, 1, EINVAL);
    refuses(ADJ_TICK, TICK, -1, EINVAL);
    refuses(ADJ_TICK | ADJ_ESTERROR, TICK, 0, EINVAL);
    sets(ADJ_TICK, TICK, 9000, 9000);
    sets(ADJ_TICK, TICK, 11000, 11000);
    sets(ADJ_TICK, TICK, 10001, 10001);
    check_elsewhere(TICK, 10001);

    sets(ADJ_FREQUENCY, FREQ, 6553600, 6553600);
    sets(ADJ_FREQUENCY, FREQ, -6553601, -6553601);
    check_elsewhere(FREQ, -6553601);
    sets(ADJ_FREQUENCY, FREQ, MAX_FREQ + 1, MAX_FREQ);
    sets(ADJ_FREQUENCY, FREQ, INT32_MIN, -MAX_FREQ);
    if (call.width == 8) {
        sets(ADJ_FREQUENCY, FREQ, 140737488355, MAX_FREQ);
        sets(ADJ_FREQUENCY, FREQ, -140737488355, -MAX_FREQ);
        refuses(ADJ_FREQUENCY, FREQ, 140737488356, EINVAL);
        refuses(ADJ_FREQUENCY, FREQ, -140737488356, EINVAL);
        refuses(ADJ_FREQUENCY | ADJ_OFFSET_SS_READ, FREQ, INT64_MIN, EINVAL);
    }
    sets(ADJ_FREQUENCY, FREQ, 0, 0);

    sets(ADJ_ESTERROR, ESTERROR, 1234, 1234);
    check_elsewhere(ESTERROR, 1234);
    sets(ADJ_ESTERROR, ESTERROR, -1, 0);
    sets(ADJ_ESTERROR, ESTERROR, PHASE_LIMIT + 1, PHASE_LIMIT);
    sets(ADJ_MAXERROR, MAXERROR, PHASE_LIMIT + 1, PHASE_LIMIT);
    sets(ADJ_MAXERROR, MAXERROR, -1, 0);
    sets(ADJ_MAXERROR, MAXERROR, 4321, 4321);
    check_elsewhere(MAXERROR, 4321);

    sets(ADJ_MICRO | ADJ_TIMECONST, CONSTANT, 2, 6);
    sets(ADJ_TIMECONST, CONSTANT, 7, 10);
    sets(ADJ_TIMECONST, CONSTANT, -1, 4);
    sets(ADJ_NANO | ADJ_TIMECONST, CONSTANT, 3, 3);
    sets(ADJ_TIMECONST, CONSTANT, 11, 10);
    sets(ADJ_TIMECONST, CONSTANT, -1, 0);

    sets(ADJ_STATUS, STATUS, 0, STA_NANO);
    sets(ADJ_OFFSET, OFFSET, 5000, 0); /* only a phase-locked loop takes it */
    sets(ADJ_STATUS, STATUS, STA_PLL | STA_FREQHOLD, STA_PLL | STA_FREQHOLD | STA_NANO);
    sets(ADJ_OFFSET, OFFSET, 600000000, 500000000);
    sets(ADJ_OFFSET, OFFSET, -600000000, -500000000);
    sets(ADJ_OFFSET, OFFSET, -123456000, -123456000);
    CHECK(set(ADJ_MICRO, OFFSET, 0) >= 0);
    CHECK_EQUAL(field[OFFSET], -123456);
    sets(ADJ_OFFSET, OFFSET, 600000, 500000);
    sets(ADJ_OFFSET, OFFSET, call.width == 8 ? INT64_MIN : INT32_MIN, -500000);
    check_elsewhere(OFFSET, -500000);
    sets(ADJ_OFFSET, OFFSET, 0, 0);

    sets(ADJ_TAI, TAI, 0, 0); /* by the field of the constant */
    CHECK(set(ADJ_TAI, CONSTANT, 37) >= 0);
    CHECK_EQUAL(field[TAI], 37);
    CHECK_EQUAL(tai_ahead_s(), 37);
    CHECK(set(ADJ_TAI, CONSTANT, -1) >= 0 && set(ADJ_TAI, CONSTANT, 100001) >= 0);
    CHECK_EQUAL(tai_ahead_s(), 37);
    check_elsewhere(TAI, 37);
    CHECK(set(ADJ_TAI, CONSTANT, 100000) >= 0);
    CHECK_EQUAL(tai_ahead_s(), 100000);
    check_elsewhere(TAI, 100000);
}

static void check_steps(void)
{
    int64_t before_ns;

    sets(ADJ_OFFSET_SS_READ, OFFSET, 77, 0);
    refuses(SINGLE, OFFSET, 1, EINVAL);
    refuses(SINGLE | READ_ONLY, OFFSET, 1, EINVAL);
    CHECK(set(ADJ_OFFSET_SINGLESHOT | ADJ_TICK, TICK, 1) >= 0); /* no tick, then, and no offset */
    CHECK(look() >= 0);
    CHECK_EQUAL(field[TICK], 10001);

    CHECK_EQUAL(set(ADJ_STATUS | ADJ_MICRO, STATUS, STA_PLL), TIME_OK);
    refuses(ADJ_SETOFFSET, FRACTION, -1, EINVAL);
    refuses(ADJ_SETOFFSET, FRACTION, 1000000, EINVAL);
    refuses(ADJ_SETOFFSET | ADJ_NANO, FRACTION, 1000000000, EINVAL);
    refuses(ADJ_SETOFFSET, SECONDS, -2000000000, EINVAL); /* before 1970 */
    if (call.width == 8) {
        refuses(ADJ_SETOFFSET, SECONDS, INT64_MAX, EINVAL);
        refuses(ADJ_SETOFFSET | ADJ_NANO, SECONDS, 9000000000, EINVAL);
    }
    CHECK_EQUAL(look(), TIME_OK);

    /* Nothing is known then of how right the clock is; what the same call says of that is. */
    before_ns = clock_ns(CLOCK_REALTIME);
    memset(field, 0, sizeof field);
    field[SECONDS] = 1000, field[FRACTION] = 999999;
    CHECK_EQUAL(adjust(ADJ_SETOFFSET), TIME_ERROR);
    CHECK_EQUAL(field[STATUS], STA_PLL | STA_UNSYNC);
    CHECK_EQUAL(field[MAXERROR], PHASE_LIMIT);
    CHECK_EQUAL(field[ESTERROR], PHASE_LIMIT);
    check_time();
    CHECK(clock_ns(CLOCK_REALTIME) >= before_ns + 1000 * NSEC_PER_SEC + 999999000);
    memset(field, 0, sizeof field);
    field[SECONDS] = -1000, field[STATUS] = STA_PLL;
    CHECK_EQUAL(adjust(ADJ_SETOFFSET | ADJ_STATUS | ADJ_MAXERROR), TIME_OK);
    CHECK_EQUAL(field[MAXERROR], 0);
    CHECK(clock_ns(CLOCK_REALTIME) < before_ns + 1000 * NSEC_PER_SEC);

    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    CHECK(clock_settime(CLOCK_REALTIME, &now) == 0);
    CHECK_EQUAL(look(), TIME_ERROR);
    CHECK_EQUAL(field[MAXERROR], PHASE_LIMIT);
}

static void check_pointers(void)
{
    int refusal = call.has_id ? -EINVAL : -EFAULT; /* the older one writes then too */

    CHECK_EQUAL(make_call(CLOCK_REALTIME, NULL), -EFAULT);
    CHECK_EQUAL(make_call(CLOCK_REALTIME, page + page_size), -EFAULT);
    CHECK_EQUAL(make_call(CLOCK_REALTIME, page + page_size - size_of_all() + 1), -EFAULT);
    if (call.has_id) {
        memset(field, 0, sizeof field);
        CHECK_EQUAL(make_call(CLOCK_MONOTONIC, put()), -EOPNOTSUPP);
        CHECK_EQUAL(make_call(CLOCK_TAI, put()), -EOPNOTSUPP);
        CHECK_EQUAL(make_call(CLOCK_PROCESS_CPUTIME_ID, put()), -EOPNOTSUPP);
        CHECK_EQUAL(make_call(1000, put()), -EINVAL);
        CHECK_EQUAL(make_call(1000, NULL), -EFAULT);
    }

    /* It is set, and cannot be told. */
    sets(ADJ_FREQUENCY, FREQ, 0, 0);
    field[MODES] = ADJ_FREQUENCY, field[FREQ] = 655360;
    unsigned char *timex = put();
    CHECK(mprotect(page, page_size, PROT_READ) == 0);
    CHECK_EQUAL(make_call(CLOCK_REALTIME, timex), -EFAULT);
    CHECK(mprotect(page, page_size, PROT_READ | PROT_WRITE) == 0);
    CHECK(look() >= 0);
    CHECK_EQUAL(field[FREQ], 655360);

    field[MODES] = ADJ_TICK, field[TICK] = 1;
    put();
    CHECK(mprotect(page, page_size, PROT_READ) == 0);
    CHECK_EQUAL(make_call(CLOCK_REALTIME, timex), refusal);
    CHECK(mprotect(page, page_size, PROT_READ | PROT_WRITE) == 0);
}

static void check_call(struct call one)
{
    call = one;
    check_status();
    check_ranges();
    check_steps();
    check_pointers();
}

static void advance(int seconds)
{
    char letter;
    CHECK(dprintf(1, "ADVANCE %d\n", seconds) > 0 && read(0, &letter, 1) == 1);
}

/* With each second that passes the clock may be further off. A point of CLOCK_TAI comes sooner when
 * that is set ahead. */
static void check_passing(void)
{
    timer_t timer;
    sigset_t signals;
    int number;
    struct itimerspec spec = {.it_value = {0, 0}};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};

    CHECK_EQUAL(set(ADJ_STATUS, STATUS, 0), TIME_OK);
    sets(ADJ_MAXERROR, MAXERROR, 1000, 1000);
    advance(10);
    CHECK_EQUAL(look(), TIME_OK);
    CHECK_EQUAL(field[MAXERROR], 1000 + 10 * 500);
    sets(ADJ_MAXERROR, MAXERROR, PHASE_LIMIT - 500, PHASE_LIMIT - 500);
    advance(1);
    CHECK_EQUAL(look(), TIME_OK);
    advance(1);
    CHECK_EQUAL(look(), TIME_ERROR);
    CHECK_EQUAL(field[STATUS], STA_UNSYNC);
    CHECK_EQUAL(field[MAXERROR], PHASE_LIMIT);

    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &signals, NULL) == 0);
    CHECK(timer_create(CLOCK_TAI, &event, &timer) == 0);
    CHECK(clock_gettime(CLOCK_TAI, &spec.it_value) == 0);
    spec.it_value.tv_sec += 1000;
    CHECK(timer_settime(timer, TIMER_ABSTIME, &spec, NULL) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQUAL(clock_nanosleep(CLOCK_TAI, TIMER_ABSTIME, &spec.it_value, NULL), 0);
        _exit(0);
    }
    advance(1);
    CHECK(look() >= 0);
    CHECK(set(ADJ_TAI, CONSTANT, field[TAI] + 998) >= 0);
    CHECK_EQUAL(waitpid(pid, NULL, WNOHANG), 0);
    struct itimerspec left;
    CHECK(timer_gettime(timer, &left) == 0);
    CHECK_EQUAL(in_ns(left.it_value), NSEC_PER_SEC);
    CHECK(set(ADJ_TAI, CONSTANT, field[TAI] + 1) >= 0);
    check_child(pid);
    CHECK(sigwait(&signals, &number) == 0 && number == SIGUSR1);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3 || argc == 4);
    const struct call *one = timex_calls(has_role(argv, "int80"));
    if (has_role(argv, "passing")) {
        call = *one;
        check_passing();
        return success();
    }
    for (; one->number; one++)
        check_call(*one);
    return success();
}
