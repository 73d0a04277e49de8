// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* By /proc/self/mem a program can change its private memory, what is mapped of the fake vDSO too. It
 * changes only its own: its parent and a program that begins afterwards have the clock. */
#include "vdso.h"
#include <sys/mman.h>

static void destroy(uintptr_t from, size_t size)
{
    static char junk[4096];
    int fd = open("/proc/self/mem", O_RDWR);
    CHECK(fd >= 0);
    memset(junk, 0xcc, sizeof junk);
    for (size_t offset = 0; offset < size; offset += sizeof junk)
        CHECK(pwrite(fd, junk, sizeof junk, from + offset) == sizeof junk);
    CHECK(close(fd) == 0);
}

int main(int argc, char **argv)
{
    uintptr_t image = getauxval(AT_SYSINFO_EHDR);
    struct timespec ts = {-1, -1};
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    if (argc > 3)
        return 0;
    pid_t pid = fork();
    if (pid == 0) {
        destroy(image, 4096);            /* the fake image */
        destroy(image - 2 * 4096, 8192); /* the process page and the marker */
        CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
        CHECK_EQUAL(in_ns(ts), start_ns(argv));
        exec_role(argv, "executed");
    }
    check_child(pid);
    check_wall(start_ns(argv));
    check_move(argv);
    return success();
}
