// run: start=2000-01-01T00:00:00Z rate=1 args=1 bare=fails
// run: start=2000-01-01T00:00:00Z rate=60 args=60 on=static,i386 bare=fails
// run: start=2000-01-01T00:00:00Z rate=0.25 args=0.25 bare=fails
// run: start=2000-01-01T00:00:00Z rate=1000000 args=1000000 bare=fails
/* At rate r the wall clock goes r times as far as the monotonic one between two readings of each,
 * and started at the given instant not long ago. */
#include "check.h"

static int64_t read_between(int64_t *before, int64_t *after)
{
    *before = clock_ns(CLOCK_MONOTONIC);
    int64_t wall = clock_ns(CLOCK_REALTIME);
    *after = clock_ns(CLOCK_MONOTONIC);
    return wall;
}

int main(int argc, char **argv)
{
    int64_t before[2], after[2], first, last, previous;
    CHECK(argc == 4);
    double rate = atof(argv[3]);

    first = previous = read_between(&before[0], &after[0]);
    CHECK(first >= start_ns(argv));
    CHECK((first - start_ns(argv)) / rate < 30 * NSEC_PER_SEC);
    do {
        last = read_between(&before[1], &after[1]);
        CHECK(last >= previous);
        previous = last;
    } while (after[1] - before[0] < NSEC_PER_SEC / 20);
    double way = last - first, slack = rate + 1; /* each reading is cut to a nanosecond */
    CHECK(way >= (before[1] - after[0]) * rate - slack);
    CHECK(way <= (after[1] - before[0]) * rate + slack);
    return success();
}
