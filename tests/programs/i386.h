/* System calls of a 32-bit program, raw: their numbers (arch/x86/entry/syscalls/syscall_32.tbl), the
 * two ways to make one, and the structures of the older ones, which have 32-bit times. */
#ifndef I386_H
#define I386_H

#include "check.h"
#include <sys/auxv.h>

enum {
    TIME = 13, STIME = 25, TIMES = 43, GETTIMEOFDAY = 78, SETTIMEOFDAY = 79, SYSINFO = 116,
    ADJTIMEX = 124, FUTEX = 240, TIMER_CREATE = 259, TIMER_SETTIME = 260, CLOCK_SETTIME = 264,
    CLOCK_GETTIME = 265, CLOCK_NANOSLEEP = 267, MQ_TIMEDRECEIVE = 280, TIMERFD_SETTIME = 325,
    CLOCK_ADJTIME = 343, CLOCK_GETTIME64 = 403, CLOCK_SETTIME64 = 404, CLOCK_ADJTIME64 = 405,
    CLOCK_NANOSLEEP64 = 407, TIMER_SETTIME64 = 409, TIMERFD_SETTIME64 = 411, FUTEX64 = 422
};

struct narrow { int32_t sec, nsec; };
struct wide { int64_t sec, nsec; };

/* Goes to `entry` with a system call in the registers: for a libc that is __kernel_vsyscall. */
long enter(const void *entry, long number, long a, long b, long c, long d, long e, long f);
extern const char int80[];

__asm__(".text\n"
        "enter:\n"
        "    pushl %ebp; pushl %ebx; pushl %esi; pushl %edi\n"
        "    movl 24(%esp), %eax; movl 28(%esp), %ebx; movl 32(%esp), %ecx; movl 36(%esp), %edx\n"
        "    movl 40(%esp), %esi; movl 44(%esp), %edi; movl 48(%esp), %ebp\n"
        "    call *20(%esp)\n"
        "    popl %edi; popl %esi; popl %ebx; popl %ebp\n"
        "    ret\n"
        "int80:\n"
        "    int $0x80\n"
        "    ret\n");

static const void *way;

static inline const void *kernel_vsyscall(void)
{
    const void *entry = (const void *)getauxval(AT_SYSINFO);
    CHECK(entry);
    return entry;
}

/* Takes up to six arguments. The result is the kernel's: an error is negative. */
#define RAW(...) RAW_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define RAW_(number, a, b, c, d, e, f, ...)                                                        \
    enter(way, number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#endif
