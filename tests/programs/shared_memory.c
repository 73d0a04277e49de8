// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* Processes that share their memory and are no threads (vfork, CLONE_VM): each of them reads the clock,
 * makes system calls and waits until points of the clock at the same time as the others. */
#include "check.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#define WAIT_NS 30000000LL

enum { CHILDREN = 4, ROUNDS = 40 };

static int64_t wall_ns;

static int64_t monotonic_ns(void)
{
    struct timespec ts;
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts) == 0);
    return in_ns(ts);
}

static void check_calls(void)
{
    struct timespec ts = {-1, -1};
    check_wall(wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), wall_ns);
}

/* Half of the children wait until what is past, half until what is to come. */
static int work(void *number)
{
    int64_t until_ns = wall_ns + ((intptr_t)number % 2 ? WAIT_NS : 0);
    struct timespec until = {until_ns / NSEC_PER_SEC, until_ns % NSEC_PER_SEC};
    for (int i = 0; i < ROUNDS; i++) {
        int64_t began_ns = monotonic_ns();
        check_calls();
        CHECK(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL) == 0);
        int64_t passed_ns = monotonic_ns() - began_ns;
        if ((intptr_t)number % 2)
            CHECK(passed_ns >= WAIT_NS);
    }
    return 0;
}

int main(int argc, char **argv)
{
    pid_t pids[CHILDREN];
    CHECK(argc == 3);
    wall_ns = start_ns(argv);
    pid_t pid = vfork();
    if (pid == 0) {
        struct timespec ts = {-1, -1};
        int failed = clock_gettime(CLOCK_REALTIME, &ts) || in_ns(ts) != wall_ns ||
                     syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) || in_ns(ts) != wall_ns;
        _exit(failed);
    }
    check_child(pid);
    for (intptr_t i = 0; i < CHILDREN; i++) {
        char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(stack != MAP_FAILED);
        pids[i] = clone(work, stack + 65536, CLONE_VM | SIGCHLD, (void *)i);
    }
    for (int i = 0; i < CHILDREN; i++)
        check_child(pids[i]);
    check_move(argv);
    return success();
}
