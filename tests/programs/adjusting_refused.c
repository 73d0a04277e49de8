// run: start=2000-01-01T00:00:00.123456789Z as=root on=static,dynamic,i386 bare=passes
// run: machine=x86_64 start=2000-01-01T00:00:00Z as=root args=int80 bare=passes
/* Whoever may not set the clock reads by adjtimex(2) what there is to read, and gets the kernel's
 * errors for the rest: nothing is set, and nothing written. */
#include "timex.h"

static void refuses(unsigned modes, int one, int64_t given, int error)
{
    unsigned char before[208];
    CHECK_EQUAL(set(modes, one, given), -error);
    const unsigned char *timex = page + page_size - size_of_all();
    unsigned char *expected = put(); /* the same again */
    memcpy(before, expected, size_of_all());
    CHECK_EQUAL(make_call(CLOCK_REALTIME, timex), -error);
    if (call.has_id)
        CHECK(memcmp(timex, before, size_of_all()) == 0);
    else {
        memset(field, 0, sizeof field);
        take(timex);
        CHECK_EQUAL(field[one], call.width == 8 ? given : (int32_t)given);
    }
}

static void check_reading(void)
{
    long state = look();
    CHECK(state >= TIME_OK && state <= TIME_ERROR);
    CHECK((state == TIME_ERROR) >= !!(field[STATUS] & (STA_UNSYNC | STA_CLOCKERR)));
    CHECK_EQUAL(field[PRECISION], 1);
    CHECK_EQUAL(field[TOLERANCE], MAX_FREQ);
    CHECK(field[TICK] >= 9000 && field[TICK] <= 11000);
    CHECK(field[FREQ] >= -MAX_FREQ && field[FREQ] <= MAX_FREQ);
    CHECK_EQUAL(field[TAI], tai_ahead_s());
    check_time();
    CHECK_EQUAL(set(ADJ_OFFSET_SS_READ, TICK, 1), state);
}

static void check_refusals(void)
{
    static const unsigned modes[] = {
        ADJ_OFFSET, ADJ_FREQUENCY, ADJ_MAXERROR, ADJ_ESTERROR, ADJ_STATUS, ADJ_TIMECONST, ADJ_TAI,
        ADJ_SETOFFSET, ADJ_MICRO, ADJ_NANO, ADJ_TICK, ADJ_OFFSET_SINGLESHOT, 0x40,
        ADJ_OFFSET_SS_READ | ADJ_SETOFFSET,
    };
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++)
        refuses(modes[i], CONSTANT, 1, EPERM);
    refuses(ADJ_TICK, TICK, 1, EPERM);
    refuses(ADJ_SETOFFSET, FRACTION, -1, EPERM);
    refuses(ADJ_STATUS, STATUS, STA_INS, EPERM);
    refuses(ADJ_FREQUENCY, FREQ, call.width == 8 ? INT64_MIN : INT32_MIN, EPERM);
    refuses(SINGLE, OFFSET, 1, EINVAL);
    refuses(SINGLE | READ_ONLY, OFFSET, 1, EINVAL);
    refuses(SINGLE | ADJ_SETOFFSET, OFFSET, 1, EINVAL);
    if (call.width == 8)
        refuses(ADJ_OFFSET_SS_READ | ADJ_FREQUENCY, FREQ, INT64_MAX, EINVAL);
    CHECK_EQUAL(make_call(CLOCK_REALTIME, NULL), -EFAULT);
    CHECK_EQUAL(make_call(CLOCK_REALTIME, page + page_size - size_of_all() + 1), -EFAULT);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3 || argc == 4);
    CHECK(getuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0));
    CHECK(getuid() != 0 && geteuid() != 0);
    for (const struct call *one = timex_calls(has_role(argv, "int80")); one->number; one++) {
        call = *one;
        check_reading();
        check_refusals();
    }
    return success();
}
