/* i386: system calls, ordering, arithmetic, and what its vDSO has beyond the common functions.
 * Programs of this kind run on an x86-64 kernel, whose tracer starts them too. */
#include <stdint.h>

#define HAVE_GETTIMEOFDAY
#define HAVE_GETCPU
#define HAVE_TIME
#define HAVE_TIME64
#define HAVE_STAMP_RETURNS
#define HAVE_OPEN_RETURNS

/* What a stat leaves: struct stat64, statx, stat and __old_kernel_stat (asm/stat.h, linux/stat.h), see vdso.c. */
#define STAMP_RECORDS                                                                            \
    {NR_fstat64, {64, 72, 80, 80}, 4, 4}, {NR_statx, {64, 80, 96, 112}, 8, 4},                   \
        {NR_fstat, {32, 40, 48, 48}, 4, 4}, {NR_oldfstat, {20, 24, 28, 28}, 4, 0}

/* arch/x86/entry/syscalls/syscall_32.tbl */
#define NR_close 6
#define NR_oldfstat 28
#define NR_gettimeofday 78
#define NR_munmap 91
#define NR_fstat 108
#define NR_mprotect 125
#define NR_pread64 180
#define NR_mmap 192 /* mmap2 */
#define MMAP_UNIT 1 /* of its offset: pages */
#define NR_fstat64 197
#define NR_clock_gettime 265
#define NR_clock_getres 266
#define NR_openat 295
#define NR_readlinkat 305
#define NR_getcpu 318
#define NR_statx 383
#define NR_clock_gettime64 403
#define NR_clock_getres_time64 406

/* As on x86-64. */
#define read_barrier() __asm__ volatile("" ::: "memory")
#define cpu_relax() __asm__ volatile("pause" ::: "memory")

static inline uint32_t load_acquire(const volatile uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

/* high:low / divisor, where high is below divisor: the processor's own division (Intel SDM vol. 2,
 * DIV). C has none between 32 and 64 bits, and that of 64 bits is a function of compiler-rt. */
static inline uint32_t divide(uint32_t high, uint32_t low, uint32_t divisor, uint32_t *rest)
{
    uint32_t quotient;
    __asm__("divl %4" : "=a"(quotient), "=d"(*rest) : "0"(low), "1"(high), "r"(divisor) : "cc");
    return quotient;
}

/* syscall(2): number in eax; arguments ebx ecx edx esi edi ebp; all are kept but eax. int 0x80
 * works everywhere; the faster ways are the kernel's __kernel_vsyscall's to choose, where speed
 * matters. */
static inline long syscall5(long nr, long a, long b, long c, long d, long e)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "0"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

/* The loader has no room for registers that a call does not look at. */
static inline long syscall3(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(nr), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

/* The compiler lends ebp to nobody: it is exchanged with the argument on the stack. */
static inline long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
    long result;
    __asm__ volatile("pushl %7\n\t"
                     "xchgl %%ebp, (%%esp)\n\t"
                     "int $0x80\n\t"
                     "popl %%ebp"
                     : "=a"(result)
                     : "0"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), "g"(f)
                     : "memory");
    return result;
}

#define syscall1(nr, a) syscall3(nr, (long)(a), 0, 0)
#define syscall2(nr, a, b) syscall3(nr, (long)(a), (long)(b), 0)
#define syscall4(nr, a, b, c, d) syscall5(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0)
