// run: start=1970-01-01T00:00:00Z bare=fails
/* A program that unmaps what it does not know and maps its own memory there keeps that memory: nothing
 * is written into it for the program's deadlines. It gets EFAULT for them or its wait, and its other
 * calls are answered. */
#include "vdso.h"
#include <sys/mman.h>

enum { PAGES = 3 }; /* the clock page and the two behind it: native_stub/README.md */

static void check_untouched(const unsigned char *page)
{
    for (int i = 0; i < 4096; i++)
        CHECK_EQUAL(page[i], 0xee);
}

int main(int argc, char **argv)
{
    uintptr_t image = getauxval(AT_SYSINFO_EHDR);
    unsigned char *pages = (unsigned char *)image - PAGES * 4096;
    struct timespec soon = {0, 50000000}, ts = {-1, -1};
    CHECK(argc == 3);
    check_wall(start_ns(argv));
    /* The page that timeouts are put into, then all. */
    for (int first = 1; first >= 0; first--) {
        unsigned char *from = pages + first * 4096;
        int count = first ? 1 : PAGES;
        CHECK(mmap(from, count * 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == from);
        memset(from, 0xee, count * 4096);
        for (int i = 0; i < 200; i++) {
            errno = 0;
            long result = syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME,
                                  i ? &(struct timespec){0, 0} : &soon, NULL);
            CHECK(result == 0 || errno == EFAULT);
        }
        for (int i = 0; i < count; i++)
            check_untouched(from + i * 4096);
        CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
        CHECK_EQUAL(in_ns(ts), start_ns(argv));
    }
    CHECK(munmap(pages, PAGES * 4096) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
        CHECK_EQUAL(in_ns(ts), start_ns(argv));
        _exit(0);
    }
    check_child(pid);
    return success();
}
