// run: on=static,dynamic,i386,i386-dynamic bare=passes
/* The resolution of every clock is the host's, and so is every refusal. */
#include "vdso.h"

typedef long clock_getres_fn(clockid_t, struct word_timespec *);

int main(void)
{
    struct image image = program_image();
    clock_getres_fn *vdso_clock_getres = find_symbol(&image, VDSO("clock_getres"));

    CHECK(vdso_clock_getres);
    for (clockid_t id = -8; id < 32; id++) {
        if (id >= 16 && id < 24)
            continue; /* auxiliary clocks: Linux 6.18's vDSO answers for them where they are off too */
        struct timespec real = {-1, -1}, libc = {-1, -1};
        struct word_timespec vdso = {-1, -1};
        long refused = syscall(SYS_clock_getres, id, &real) == 0 ? 0 : -errno;
        CHECK_EQUAL(clock_getres(id, &libc) == 0 ? 0 : -errno, refused);
        CHECK_EQUAL(vdso_clock_getres(id, &vdso), refused);
        CHECK_EQUAL(in_ns(libc), in_ns(real));
        CHECK(vdso.sec == real.tv_sec && vdso.nsec == real.tv_nsec);
        CHECK_EQUAL(vdso_clock_getres(id, NULL), refused);
    }
    return success();
}
