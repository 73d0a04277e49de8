// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,i386 args=1000 bare-args=0 bare=passes
// run: start=1970-01-01T00:00:00Z rate=1 on=static,i386 args=1000 bare=never
/* sigtimedwait(2) for a signal that is not blocked, and would end the process: the kernel gets another set of signals for that.
 * It ends as the clock says, and leaves what the program had given it. */
#include "check.h"
#include <signal.h>

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    struct timespec length = {atoi(argv[3]), 0};
    struct timespec *timeout = &length;
    unsigned long set[16 / sizeof(long)] = {1 << (SIGUSR1 - 1)}, *wanted = set;
    int64_t until_ns = clock_ns(CLOCK_MONOTONIC) + in_ns(length);
    for (int i = 0; i < 2; i++) {
        long result;
#if defined __x86_64__
        register long size __asm__("r10") = 8;
        register void *none __asm__("rdx") = timeout;
        void *info = NULL;
        CHECK(i || dprintf(1, "ADVANCE %lld\n", 3LL * length.tv_sec) > 0);
        __asm__ volatile("syscall"
                         : "=a"(result), "+D"(wanted), "+S"(info), "+r"(none), "+r"(size)
                         : "0"(SYS_rt_sigtimedwait)
                         : "rcx", "r11", "memory");
        CHECK(none == timeout && info == NULL && size == 8);
#else
        CHECK(i || dprintf(1, "ADVANCE %lld\n", 3LL * length.tv_sec) > 0);
        result = syscall(SYS_rt_sigtimedwait, wanted, NULL, timeout, 8) < 0 ? -errno : 0;
#endif
        CHECK_EQUAL(result, -EAGAIN);
        CHECK(wanted == set);
        int64_t late_ns = clock_ns(CLOCK_MONOTONIC) - until_ns;
        CHECK(late_ns >= 0 && late_ns < 60 * NSEC_PER_SEC);
        until_ns += in_ns(length) + late_ns;
    }
    return success();
}
