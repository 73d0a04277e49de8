// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 bare=fails
// run: start=1970-01-01T00:00:00Z rate=60 bare=fails
/* A pointer to memory that is not there or may not be written is SIGSEGV in the vDSO, the fake one as
 * the kernel's; what lies across two pages is written whole. */
#include "vdso.h"
#include <signal.h>
#include <sys/mman.h>

static char *pages; /* writable, read-only, none */

/* One function with a pointer to its result. */
static void call(const struct image *image, const char *name, void *p)
{
    void *function = find_symbol(image, name);
    CHECK(function);
    if (strncmp(name, VDSO("clock"), 12) == 0)
        CHECK_EQUAL(((long (*)(clockid_t, void *))function)(CLOCK_MONOTONIC, p), 0);
    else
        CHECK(((long (*)(void *, void *))function)(p, NULL) >= 0);
}

static void check_faults(const struct image *image, const char *name, void *p)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        call(image, name, p);
        _exit(0);
    }
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
    CHECK_EQUAL(WTERMSIG(status), SIGSEGV);
}

int main(int argc, char **argv)
{
    static const char *names[] = {VDSO("clock_gettime"), VDSO("gettimeofday"), VDSO("clock_getres"),
#ifndef __aarch64__
                                  VDSO("time"),
#endif
    };
    struct image images[] = {program_image(), kernel_image()};
    CHECK(argc == 3);
    pages = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && mprotect(pages + 4096, 4096, PROT_READ) == 0);
    CHECK(munmap(pages + 8192, 4096) == 0);
    for (int i = 0; i < 2; i++) {
        for (unsigned n = 0; n < sizeof names / sizeof *names; n++) {
            call(&images[i], names[n], pages + 2048);
            check_faults(&images[i], names[n], pages + 4096);
            check_faults(&images[i], names[n], pages + 4096 - sizeof(long) / 2);
            check_faults(&images[i], names[n], pages + 8192);
            check_faults(&images[i], names[n], (void *)8);
            check_faults(&images[i], names[n], (void *)-4096);
#if UINTPTR_MAX > UINT32_MAX
            check_faults(&images[i], names[n], (void *)0x8000000000000000);
#endif
        }
    }
    CHECK(mprotect(pages + 4096, 4096, PROT_READ | PROT_WRITE) == 0);
    struct word_timespec ts;
    call(&images[0], VDSO("clock_gettime"), pages + 4096 - sizeof ts / 2);
    memcpy(&ts, pages + 4096 - sizeof ts / 2, sizeof ts);
    int64_t ns = ts.sec * NSEC_PER_SEC + ts.nsec;
    CHECK(ns > 0 && ns <= clock_ns(CLOCK_MONOTONIC));
    CHECK(llabs(clock_ns(CLOCK_REALTIME) - start_ns(argv)) < 3600 * NSEC_PER_SEC);
    return success();
}
