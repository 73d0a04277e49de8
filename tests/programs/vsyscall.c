// run: machine=x86_64 start=1970-01-01T00:00:00Z bare=fails
/* The legacy vsyscall page, where static programs of long ago call for the time at fixed addresses
 * (arch/x86/include/uapi/asm/vsyscall.h). Where the kernel has none, calling it is SIGSEGV. */
#include "check.h"
#include <setjmp.h>
#include <signal.h>

static sigjmp_buf no_page;

static void on_fault(int number)
{
    (void)number;
    siglongjmp(no_page, 1);
}

int main(int argc, char **argv)
{
    int (*gettimeofday_)(struct timeval *, struct timezone *) = (void *)0xffffffffff600000;
    time_t (*time_)(time_t *) = (void *)0xffffffffff600400;
    long (*getcpu_)(unsigned *, unsigned *, void *) = (void *)0xffffffffff600800;
    struct timeval tv = {-1, -1};
    struct timezone tz = {-1, -1};
    time_t stored = -1;
    unsigned cpu = -1u;

    CHECK(argc == 3);
    int64_t seconds = strtoll(argv[1], NULL, 10) / NSEC_PER_SEC;
    signal(SIGSEGV, on_fault);
    if (sigsetjmp(no_page, 1) == 0) {
        CHECK_EQUAL(time_(&stored), seconds);
        CHECK_EQUAL(stored, seconds);
        CHECK_EQUAL(gettimeofday_(&tv, &tz), 0);
        CHECK_EQUAL(tv.tv_sec, seconds);
        CHECK_EQUAL(tv.tv_usec, 0);
        CHECK(tz.tz_dsttime != -1);
        CHECK_EQUAL(getcpu_(&cpu, NULL, NULL), 0);
        CHECK(cpu < 4096);
    } else {
        CHECK_EQUAL(time(NULL), seconds);
    }
    puts("EXIT-SUCCESS");
    return 0;
}
