// run: start=1970-01-01T00:00:00Z bare=fails
/* A program that puts code of its own where the kernel's vDSO was, as sandboxes do that want to see every
 * call: its system calls from there are calls of the program, and are told its clock. */
#include "vdso.h"
#include <sys/mman.h>

int main(int argc, char **argv)
{
#ifdef __aarch64__
    enum { PLACE = 0x124 };
    static const unsigned code[] = {0xd2800e28, 0xd4000001, 0xd65f03c0}; /* mov x8, #113; svc #0; ret */
#else
    enum { PLACE = 0x123 };
    static const unsigned char code[] = {0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0xc3}; /* mov $228, %eax; syscall; ret */
#endif
    char line[512];
    unsigned long start = 0, end = 0;
    struct timespec ts = {-1, -1};
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(argc == 3 && maps);
    check_wall(start_ns(argv));
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "[vdso]"))
            CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2);
    fclose(maps);
    CHECK(start);
    unsigned char *page = mmap((void *)start, end - start, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(page == (void *)start);
    memset(page, 0x90, end - start); /* nop */
    memcpy(page + PLACE, code, sizeof code);
    __builtin___clear_cache((char *)page, (char *)page + (end - start));
    CHECK(mprotect(page, end - start, PROT_READ | PROT_EXEC) == 0);
    long (*gettime)(clockid_t, struct timespec *) = (void *)(page + PLACE);
    CHECK(gettime(CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), start_ns(argv));
    CHECK(write(1, "MOVE\n", 5) == 5);
    CHECK(read(0, line, 1) == 1);
    CHECK(gettime(CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), strtoll(argv[2], NULL, 10));
    return success();
}
