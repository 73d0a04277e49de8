// run: start=1970-01-01T00:00:00Z on=static,static-pie,dynamic bare=fails
// run: start=2106-02-07T06:28:15.999999Z bare=fails
// run: start=1901-12-13T20:45:51.5Z bare=fails
/* The older calls, each argument given or NULL, through libc and through the vDSO's own symbols. */
#include "vdso.h"

typedef long gettimeofday_fn(struct timeval *, void *);
typedef long time_fn(int64_t *);

int main(int argc, char **argv)
{
    struct image image = program_image();
    gettimeofday_fn *vdso_gettimeofday = find_symbol(&image, VDSO("gettimeofday"));
    struct timezone real = {-1, -1}, tz = {-2, -2};
    struct timeval tv = {-1, -1};
    struct timespec ts;
    time_t t = -1;
    int64_t expected_ns = start_ns(argv);
    int64_t sec = expected_ns / NSEC_PER_SEC - (expected_ns % NSEC_PER_SEC < 0);
    int64_t usec = (expected_ns - sec * NSEC_PER_SEC) / 1000;

    CHECK(argc == 3);
    check_wall(expected_ns);
    CHECK(time(&t) == sec && t == sec);
    CHECK(timespec_get(&ts, TIME_UTC) == TIME_UTC);
    CHECK_EQUAL(in_ns(ts), expected_ns);

#ifndef __aarch64__ /* which has fewer functions, and one name for each */
    time_fn *vdso_time = find_symbol(&image, VDSO("time"));
    CHECK(vdso_time && find_symbol(&image, "time") == (void *)vdso_time);
    t = -1;
    CHECK_EQUAL(vdso_time(NULL), sec);
    CHECK(vdso_time(&t) == sec && t == sec);

    CHECK(find_symbol(&image, "gettimeofday") == (void *)vdso_gettimeofday);
#endif

    CHECK(vdso_gettimeofday);
    CHECK(syscall(SYS_gettimeofday, NULL, &real) == 0);
    CHECK(vdso_gettimeofday(&tv, &tz) == 0);
    CHECK(tv.tv_sec == sec && tv.tv_usec == usec);
    CHECK(tz.tz_minuteswest == real.tz_minuteswest && tz.tz_dsttime == real.tz_dsttime);
    tz.tz_minuteswest = -2;
    CHECK(vdso_gettimeofday(NULL, &tz) == 0);
    CHECK_EQUAL(tz.tz_minuteswest, real.tz_minuteswest);
    CHECK(vdso_gettimeofday(NULL, NULL) == 0);
    return success();
}
