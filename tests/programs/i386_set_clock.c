// run: start=1970-01-01T00:00:00Z on=i386 as=root bare=never
/* Root sets the clock by the calls of a 32-bit program, which have one more than others: stime. It
 * never runs bare: the host's clock would move. */
#include "i386.h"
#include <sys/timex.h>

enum { MODES, SECONDS = 9, FRACTION }; /* of struct timex, each as wide as a long */

int main(int argc, char **argv)
{
    struct narrow narrow = {1000, 5};
    struct wide wide = {5000000000, 0x7eadbeef00000007}; /* the upper half is padding */
    int32_t timex[32] = {0};
    int64_t wide_timex[26] = {0};
    (void)argv;
    CHECK(argc == 3);
    way = kernel_vsyscall();

    CHECK_EQUAL(RAW(CLOCK_SETTIME, CLOCK_REALTIME, &narrow), 0);
    check_wall(1000 * NSEC_PER_SEC + 5);
    CHECK_EQUAL(RAW(SETTIMEOFDAY, &narrow, 0), 0);
    check_wall(1000 * NSEC_PER_SEC + 5000);
    CHECK_EQUAL(RAW(CLOCK_SETTIME64, CLOCK_REALTIME, &wide), 0);
    check_wall(5000000000 * NSEC_PER_SEC + 7);
    CHECK_EQUAL(RAW(STIME, &narrow), 0);
    check_wall(1000 * NSEC_PER_SEC);
    narrow.sec = -1;
    CHECK_EQUAL(RAW(CLOCK_SETTIME, CLOCK_REALTIME, &narrow), -EINVAL);
    CHECK_EQUAL(RAW(STIME, &narrow), 0); /* it says nothing of what cannot be set */
    check_wall(1000 * NSEC_PER_SEC);

    CHECK(RAW(ADJTIMEX, timex) >= 0);
    CHECK_EQUAL(timex[SECONDS], 1000);
    timex[MODES] = ADJ_SETOFFSET;
    timex[SECONDS] = 100;
    timex[FRACTION] = 250000;
    CHECK(RAW(CLOCK_ADJTIME, CLOCK_REALTIME, timex) >= 0);
    check_wall(1100 * NSEC_PER_SEC + 250000000);
    wide_timex[MODES] = ADJ_SETOFFSET | ADJ_NANO;
    wide_timex[SECONDS] = -101;
    wide_timex[FRACTION] = 750000000;
    CHECK(RAW(CLOCK_ADJTIME64, CLOCK_REALTIME, wide_timex) >= 0);
    check_wall(1000 * NSEC_PER_SEC);
    CHECK_EQUAL(RAW(ADJTIMEX, 8), -EFAULT);
    return success();
}
