// run: start=2000-01-01T00:00:00Z rate=0 monotonic=freeze bare=fails
// run: start=2000-01-01T00:00:00Z rate=0 monotonic=rate bare=fails
/* A frozen monotonic line stands still on every clock that reads it, and not at zero. Its coarse clock
 * then reads the same. */
#include "check.h"

int main(void)
{
    static const clockid_t ids[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE,
                                    CLOCK_BOOTTIME, CLOCK_REALTIME};
    enum { COUNT = sizeof ids / sizeof *ids };
    int64_t first[COUNT];

    for (int i = 0; i < COUNT; i++)
        CHECK((first[i] = clock_ns(ids[i])) > 0);
    CHECK_EQUAL(first[2], first[0]);
    clock_t cpu = clock();
    while (clock() - cpu < CLOCKS_PER_SEC / 50)
        continue;
    for (int i = 0; i < COUNT; i++)
        CHECK_EQUAL(clock_ns(ids[i]), first[i]);
    return success();
}
