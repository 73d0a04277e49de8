// run: start=1970-01-01T00:00:00Z on=static,i386 bare=passes
// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z rate=1 on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z autojump=yes bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=static,i386 bare=never
/* The pointers of calls that read clocks or set them, by a program that may not set any. */
#include "pointers.h"

#define LONG_ sizeof(long)
#define ZONE sizeof(struct timezone)
#define PAIR (2 * LONG_)
#define WIDE_PAIR 16
/* adjtimex(2), times(2), sysinfo(2): as the kernel has them */
#define TIMEX (LONG_ == 8 ? 208 : 128)
#define WIDE_TIMEX 208
#define TMS (4 * LONG_)
#define SYSINFO (LONG_ == 8 ? 112 : 64)

static const int served[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_BOOTTIME,
                             CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, -6};
static const int none[] = {10, 1000, -1};

static char good_memory[256];
#define GOOD ((long)good_memory)

static void check_reading(void)
{
    for (unsigned i = 0; i < sizeof served / sizeof *served; i++) {
        TRY(CALL(clock_gettime), .args = {served[i]}, .at = 1, .access = WRITES, .size = PAIR);
#ifdef __NR_clock_gettime64
        TRY(CALL(clock_gettime64), .args = {served[i]}, .at = 1, .access = WRITES, .size = WIDE_PAIR);
#endif
    }
    for (unsigned i = 0; i < sizeof none / sizeof *none; i++) {
        TRY(CALL(clock_gettime), .args = {none[i]}, .at = 1, .access = WRITES, .size = PAIR, .state = "no clock",
            .good = -EINVAL, .null = -EINVAL, .read_only = -EINVAL, .fault = -EINVAL);
#ifdef __NR_clock_gettime64
        TRY(CALL(clock_gettime64), .args = {none[i]}, .at = 1, .access = WRITES, .size = WIDE_PAIR, .state = "no clock",
            .good = -EINVAL, .null = -EINVAL, .read_only = -EINVAL, .fault = -EINVAL);
#endif
    }
    TRY(CALL(gettimeofday), .args = {0, 0}, .at = 0, .access = WRITES, .size = PAIR, .null = 0);
    TRY(CALL(gettimeofday), .args = {0, GOOD}, .at = 0, .access = WRITES, .size = PAIR, .null = 0);
    TRY(CALL(gettimeofday), .args = {0, 0}, .at = 1, .access = WRITES, .size = ZONE, .null = 0);
    TRY(CALL(gettimeofday), .args = {GOOD, 0}, .at = 1, .access = WRITES, .size = ZONE, .null = 0);
#ifdef __NR_time
    TRY(CALL(time), .at = 0, .access = WRITES, .size = LONG_, .good = ANY, .null = ANY);
#endif
    TRY(CALL(times), .at = 0, .access = WRITES, .size = TMS, .good = ANY, .null = ANY);
    TRY(CALL(sysinfo), .at = 0, .access = WRITES, .size = SYSINFO);
}

/* Nothing is set: the caller has no right to, and most values are none. */
static void check_setting(void)
{
    static const long when[] = {77, 0}, odd[] = {77, 1000000000}, before[] = {-77, 0};
    static const int zone[] = {0, 0}, far[] = {10000, 0};
    TRY(CALL(clock_settime), .args = {CLOCK_REALTIME}, .at = 1, .size = PAIR, .data = when, .good = -EPERM);
    TRY(CALL(clock_settime), .args = {CLOCK_REALTIME}, .at = 1, .size = PAIR, .data = odd, .good = -EINVAL);
    TRY(CALL(clock_settime), .args = {CLOCK_REALTIME}, .at = 1, .size = PAIR, .data = before, .good = -EINVAL);
    TRY(CALL(clock_settime), .args = {CLOCK_MONOTONIC}, .at = 1, .size = PAIR, .data = when, .state = "another",
        .good = -EINVAL, .null = -EINVAL, .fault = -EINVAL);
    TRY(CALL(clock_settime), .args = {10}, .at = 1, .size = PAIR, .data = when, .state = "no clock",
        .good = -EINVAL, .null = -EINVAL, .fault = -EINVAL);
#ifdef __NR_clock_settime64
    static const int64_t wide_when[] = {77, 0}, wide_odd[] = {77, 1000000000};
    TRY(CALL(clock_settime64), .args = {CLOCK_REALTIME}, .at = 1, .size = WIDE_PAIR, .data = wide_when, .good = -EPERM);
    TRY(CALL(clock_settime64), .args = {CLOCK_REALTIME}, .at = 1, .size = WIDE_PAIR, .data = wide_odd, .good = -EINVAL);
    TRY(CALL(clock_settime64), .args = {CLOCK_MONOTONIC}, .at = 1, .size = WIDE_PAIR, .data = wide_when,
        .state = "another", .good = -EINVAL, .null = -EINVAL, .fault = -EINVAL);
#endif
    TRY(CALL(settimeofday), .args = {0, 0}, .at = 0, .size = PAIR, .data = when, .good = -EPERM, .null = -EPERM);
    TRY(CALL(settimeofday), .args = {0, (long)zone}, .at = 0, .size = PAIR, .data = when, .good = -EPERM, .null = -EPERM);
    TRY(CALL(settimeofday), .args = {0, 1}, .at = 0, .size = PAIR, .data = when, .good = -EFAULT);
    TRY(CALL(settimeofday), .args = {0, 1}, .at = 0, .size = PAIR, .data = odd, .good = -EINVAL);
    TRY(CALL(settimeofday), .args = {0, 0}, .at = 1, .size = ZONE, .data = zone, .good = -EPERM, .null = -EPERM);
    TRY(CALL(settimeofday), .args = {(long)when, 0}, .at = 1, .size = ZONE, .data = zone, .good = -EPERM, .null = -EPERM);
    TRY(CALL(settimeofday), .args = {(long)when, 0}, .at = 1, .size = ZONE, .data = far, .good = -EPERM, .null = -EPERM);
    TRY(CALL(settimeofday), .args = {(long)before, 0}, .at = 1, .size = ZONE, .data = zone, .good = -EINVAL,
        .null = -EINVAL);
    TRY(CALL(settimeofday), .args = {(long)odd, 0}, .at = 1, .size = ZONE, .data = zone, .good = -EINVAL,
        .null = -EINVAL, .fault = -EINVAL);
#ifdef __NR_stime
    TRY(CALL(stime), .at = 0, .size = LONG_, .data = when, .good = -EPERM);
#endif
}

static const char as_it_is[WIDE_TIMEX]; /* with modes of 0 they set nothing */

static void check_adjusting(void)
{
    TRY(CALL(adjtimex), .at = 0, .access = READS_AND_WRITES, .size = TIMEX, .data = as_it_is, .good = ANY);
    TRY(CALL(clock_adjtime), .args = {CLOCK_REALTIME}, .at = 1, .access = READS_AND_WRITES, .size = TIMEX,
        .data = as_it_is, .good = ANY);
    /* The memory is read before it is known that there is nothing to adjust. */
    TRY(CALL(clock_adjtime), .args = {CLOCK_MONOTONIC}, .at = 1, .access = READS, .size = TIMEX, .data = as_it_is,
        .good = -EOPNOTSUPP);
    TRY(CALL(clock_adjtime), .args = {10}, .at = 1, .access = READS, .size = TIMEX, .data = as_it_is, .good = -EINVAL);
#ifdef __NR_clock_adjtime64
    TRY(CALL(clock_adjtime64), .args = {CLOCK_REALTIME}, .at = 1, .access = READS_AND_WRITES, .size = WIDE_TIMEX,
        .data = as_it_is, .good = ANY);
    TRY(CALL(clock_adjtime64), .args = {CLOCK_MONOTONIC}, .at = 1, .access = READS, .size = WIDE_TIMEX,
        .data = as_it_is, .good = -EOPNOTSUPP);
#endif
}

int main(int argc, char **argv)
{
    CHECK(argc >= 3 && argv[2]);
    CHECK(geteuid() != 0 || setuid(65534) == 0);
    map_memory();
    check_reading();
    check_setting();
    check_adjusting();
    return all_were_right();
}
