// built: on=static,dynamic,i386
/* Answers each line by what time it is, here and in another process that shares its memory, if there is one: "share" starts
 * that, which reads the clock all the time, "nap" one that sleeps between two readings, "parent" one that has the same parent. */
#include "../check.h"
#include <sched.h>
#include <sys/prctl.h>

enum { STACK = 1 << 16 };
static char stack[STACK] __attribute__((aligned(64)));
static volatile long told; /* in seconds */
static volatile int is_over, naps, readings;
static int is_sibling;

static int tell(void *nothing)
{
    (void)nothing;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL))
        return 1;
    while (!is_over) {
        struct timespec now, nap = {0, 1000000};
        if (clock_gettime(CLOCK_REALTIME, &now))
            return 1;
        told = (long)now.tv_sec;
        readings++;
        if (naps)
            nanosleep(&nap, NULL);
    }
    return 0;
}

int main(void)
{
    char line[64];
    pid_t other = 0;
    setvbuf(stdin, NULL, _IONBF, 0);
    dprintf(1, "up\n");
    while (fgets(line, sizeof line, stdin)) {
        if (!other && line[0] != '\n') {
            naps = line[0] == 'n';
            is_sibling = line[0] == 'p';
            other = clone(tell, stack + STACK, CLONE_VM | SIGCHLD | (is_sibling ? CLONE_PARENT : 0), NULL);
            CHECK(other > 0);
        }
        for (int before = readings; other && readings - before < 2;) /* the first may be from before */
            continue;
        dprintf(1, "%lld %ld %d\n", (long long)(clock_ns(CLOCK_REALTIME) / NSEC_PER_SEC), told, other);
    }
    is_over = 1;
    if (other && !is_sibling)
        check_child(other);
    return 0;
}
