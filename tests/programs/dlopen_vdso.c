// run: start=1970-01-01T00:00:00Z on=dynamic,i386-dynamic bare=fails
/* glibc knows the image by its name, and finds its symbols by version. */
#include "check.h"
#include <dlfcn.h>

#ifdef __i386__
#define NAME "linux-gate.so.1"
#else
#define NAME "linux-vdso.so.1"
#endif

#ifdef __aarch64__
#define SYMBOL "__kernel_gettimeofday"
#define VERSION "LINUX_2.6.39"
#else
#define SYMBOL "__vdso_gettimeofday"
#define VERSION "LINUX_2.6"
#endif

int main(int argc, char **argv)
{
    void *vdso = dlopen(NAME, RTLD_NOLOAD | RTLD_NOW);
    long (*get)(long *, void *) = vdso ? dlvsym(vdso, SYMBOL, VERSION) : NULL;
    long time[2];
    Dl_info info;

    CHECK(argc == 3 && get && get(time, NULL) == 0);
    CHECK_EQUAL(time[0], start_ns(argv) / NSEC_PER_SEC);
    CHECK(dladdr((void *)get, &info) && strcmp(info.dli_sname, SYMBOL) == 0);
    return success();
}
