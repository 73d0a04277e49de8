// run: start=1970-01-01T00:00:00Z on=dynamic,i386-dynamic bare=fails
/* glibc knows the image by its name, and finds its symbols by version. */
#include "check.h"
#include <dlfcn.h>

#ifdef __i386__
#define NAME "linux-gate.so.1"
#else
#define NAME "linux-vdso.so.1"
#endif

int main(int argc, char **argv)
{
    void *vdso = dlopen(NAME, RTLD_NOLOAD | RTLD_NOW);
    time_t (*vdso_time)(time_t *) = vdso ? dlvsym(vdso, "__vdso_time", "LINUX_2.6") : NULL;
    Dl_info info;

    CHECK(argc == 3 && vdso_time);
    CHECK_EQUAL(vdso_time(NULL), start_ns(argv) / NSEC_PER_SEC);
    CHECK(dladdr((void *)vdso_time, &info) && strcmp(info.dli_sname, "__vdso_time") == 0);
    return success();
}
