// run: start=1970-01-01T00:00:00Z bare=fails
/* /proc/self/auxv still names the kernel's image. A program that looks there (Go's c-shared mode,
 * some JITs) must not find real time. */
#include "vdso.h"

int main(int argc, char **argv)
{
    struct image kernels = kernel_image();
    long (*gettime)(clockid_t, struct timespec *) = find_symbol(&kernels, "__vdso_clock_gettime");
    long (*gettimeofday_)(struct timeval *, void *) = find_symbol(&kernels, "__vdso_gettimeofday");
    long (*time_)(int64_t *) = find_symbol(&kernels, "__vdso_time");
    struct timespec ts;
    struct timeval tv;

    CHECK(argc == 3 && gettime && gettimeofday_ && time_);
    CHECK(gettime(CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), start_ns(argv));
    CHECK(gettimeofday_(&tv, NULL) == 0);
    CHECK_EQUAL(tv.tv_sec, start_ns(argv) / NSEC_PER_SEC);
    CHECK_EQUAL(time_(NULL), start_ns(argv) / NSEC_PER_SEC);
    return success();
}
