// run: start=1970-01-01T00:00:00Z bare=fails
/* A program that unmaps the vDSO, the kernel's and what it was given in its place, goes on with system
 * calls, waits, forks, and executes a program that has everything again. */
#include "vdso.h"
#include <signal.h>
#include <sys/mman.h>

static void unmap(const char *what)
{
    char line[512];
    unsigned long start, end;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps)) {
        CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2);
        if (strstr(line, what))
            CHECK(munmap((void *)start, end - start) == 0);
    }
    fclose(maps);
}

static void check_calls(int64_t wall_ns)
{
    struct timespec ts = {-1, -1}, none = {0, 1000000};
    struct timeval tv;
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts) == 0);
    CHECK(syscall(SYS_gettimeofday, &tv, NULL) == 0);
    CHECK_EQUAL(tv.tv_sec, wall_ns / NSEC_PER_SEC);
    CHECK(nanosleep(&none, NULL) == 0);
}

static volatile sig_atomic_t caught;
static void on_signal(int number) { caught = number; }

int main(int argc, char **argv)
{
    static const char *names[] = {"[vdso]", "[vvar", "/memfd:vdsotime"};
    struct timespec soon = {0, 0};
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    if (argc > 3)
        return 0;
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            unmap(names[i]);
            check_calls(start_ns(argv));
            soon.tv_sec = start_ns(argv) / NSEC_PER_SEC;
            long result = syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &soon, NULL);
            CHECK(result == 0 || errno == EFAULT);
            CHECK(signal(SIGUSR1, on_signal) != SIG_ERR && raise(SIGUSR1) == 0 && caught == SIGUSR1);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                check_calls(start_ns(argv));
                exec_role(argv, "executed");
            }
            check_child(grandchild);
            exec_role(argv, "executed");
        }
        check_child(pid);
    }
    unmap("[vdso]");
    unmap("[vvar");
    check_calls(start_ns(argv));
    CHECK(write(1, "MOVE\n", 5) == 5);
    CHECK(read(0, &soon, 1) == 1);
    check_calls(strtoll(argv[2], NULL, 10));
    return success();
}
