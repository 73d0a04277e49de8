// run: start=2038-01-19T03:14:08Z files=follow on=static,i386 bare=passes
// run: start=1970-01-01T00:00:00Z files=follow rate=1 on=static,i386 bare=never
/* Times that were set read back as they were set: in 32 bits, what these hold of them (cp_compat_stat, fs/stat.c). */
#include "files.h"

/* What file systems can keep: from before 1970, and beyond 2038 and 2106. */
static const int64_t seconds[] = {0, 1, -1, INT32_MIN + 1, INT32_MAX, INT32_MAX + 1LL, UINT32_MAX,
                                  UINT32_MAX + 1LL, 5000000000};

int main(int argc, char **argv)
{
    CHECK(argc == 3 && argv[2]);
    enter_directory();
    int fd = make_file("f");
    for (unsigned i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        int64_t times[] = {seconds[i], 999999999, seconds[i], 1}, ns = seconds[i] * NSEC_PER_SEC;
#ifdef __NR_utimensat_time64
        CHECK(syscall(__NR_utimensat_time64, AT_FDCWD, "f", times, 0) == 0);
#else
        CHECK(syscall(__NR_utimensat, AT_FDCWD, "f", times, 0) == 0);
#endif
        const struct form *form = &forms[FORMS - 1];
        int64_t changed[TIMES];
        CHECK_EQUAL(ask(form, NULL, fd), 0);
        for (int which = CTIME; which < TIMES; which++) {
            struct { int64_t sec; uint32_t nsec; } time;
            memcpy(&time, answer + form->at[which], 12);
            changed[which] = time.sec * NSEC_PER_SEC + time.nsec;
        }
        check_times("f", fd, ns + 999999999, ns + 1, changed[CTIME], changed[BTIME]);
    }
    CHECK(close(fd) == 0);
    return success();
}
