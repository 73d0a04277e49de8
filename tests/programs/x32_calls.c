// run: machine=x86_64 start=1970-01-01T00:00:00Z bare=fails
/* The x32 way to make a system call, by a bit in its number: a seccomp filter sees it under the number
 * with the bit. Kernels without CONFIG_X86_X32_ABI know no such call; on others it tells the clock. */
#include "check.h"

#define X32 0x40000000

int main(int argc, char **argv)
{
    struct timespec ts = {-1, -1};
    struct timeval tv = {-1, -1};
    CHECK(argc == 3);
    if (syscall(X32 + SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0)
        CHECK_EQUAL(in_ns(ts), start_ns(argv));
    else
        CHECK_EQUAL(errno, ENOSYS);
    if (syscall(X32 + SYS_gettimeofday, &tv, NULL) == 0)
        CHECK_EQUAL(tv.tv_sec, start_ns(argv) / NSEC_PER_SEC);
    else
        CHECK_EQUAL(errno, ENOSYS);
    check_move(argv);
    return success();
}
