/* The sweeper: a static program that waits until the process which has started it has ended, and then removes a file and
 * the directory that it was in: `sweeper PARENT FILE DIRECTORY`. A process that is killed removes nothing itself. One that
 * ends in order kills its sweeper first.
 */
#include <stdint.h>

#if defined(__x86_64__)
#include "arch/x86_64.h"
#elif defined(__aarch64__)
#include "arch/aarch64.h"
#else
#error "no sweeper for this architecture yet"
#endif

/* linux/fcntl.h, asm-generic/poll.h */
#define AT_FDCWD -100
#define AT_REMOVEDIR 0x200
#define POLLIN 1
#define ESRCH 3

static long number(const char *digits)
{
    long n = 0;
    while (*digits >= '0' && *digits <= '9')
        n = n * 10 + (*digits++ - '0');
    return n;
}

static void end(void)
{
    for (;;)
        syscall1(NR_exit_group, 0);
}

__attribute__((used)) void start(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)&stack[1];
    struct { int32_t fd; int16_t events, found; } ends = {.events = POLLIN};

    syscall3(NR_close_range, 0, ~0u, 0);
    if (argc != 4)
        end();
    long parent = number(argv[1]);
    long fd = syscall2(NR_pidfd_open, parent, 0);
    if (fd < 0 && fd != -ESRCH) /* before Linux 5.3, or without memory: it may be alive */
        end();
    ends.fd = (int32_t)fd;
    /* The number may be another process's since: the descriptor is its parent's if that is still its parent. */
    if (fd >= 0 && syscall0(NR_getppid) == parent)
        while (syscall5(NR_ppoll, (long)&ends, 1, 0, 0, 0) != 1)
            ;
    syscall3(NR_unlinkat, AT_FDCWD, (long)argv[2], 0);
    syscall3(NR_unlinkat, AT_FDCWD, (long)argv[3], AT_REMOVEDIR);
    end();
}

START_WITH_STACK(start)
