// run: start=1970-01-01T00:00:00Z on=static,i386 bare=fails
/* /proc/self/auxv still names the kernel's image. A program that looks there (Go's c-shared mode,
 * some JITs) must not find real time. */
#include "vdso.h"

int main(int argc, char **argv)
{
    struct image kernels = kernel_image();
    long (*gettime)(clockid_t, void *) = find_symbol(&kernels, VDSO("clock_gettime"));
    long (*gettime64)(clockid_t, void *) = find_symbol(&kernels, VDSO_CLOCK_GETTIME);
    long (*gettimeofday_)(void *, void *) = find_symbol(&kernels, VDSO("gettimeofday"));
    long (*time_)(long *) = find_symbol(&kernels, VDSO("time"));
    struct word_timespec ts = {-1, -1}, tv = {-1, -1};
    struct wide_timespec wide = {-1, -1};

    CHECK(argc == 3 && gettime && gettime64 && gettimeofday_);
    CHECK(gettime(CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(ts.sec * NSEC_PER_SEC + ts.nsec, start_ns(argv));
    CHECK(gettime64(CLOCK_REALTIME, &wide) == 0);
    CHECK_EQUAL(wide.sec * NSEC_PER_SEC + wide.nsec, start_ns(argv));
    CHECK(gettimeofday_(&tv, NULL) == 0);
    CHECK_EQUAL(tv.sec, start_ns(argv) / NSEC_PER_SEC);
#ifndef __aarch64__ /* which has none */
    CHECK(time_);
    CHECK_EQUAL(time_(NULL), start_ns(argv) / NSEC_PER_SEC);
#else
    CHECK(!time_);
#endif
    return success();
}
