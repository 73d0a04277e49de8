/* 64-bit RISC-V: what the fake vDSO needs. There is no loader or tracer for it yet. */
#include <stdint.h>

#define HAVE_GETTIMEOFDAY
#define HAVE_GETCPU

/* include/uapi/asm-generic/unistd.h */
#define NR_clock_gettime 113
#define NR_clock_getres 114
#define NR_gettimeofday 169
#define NR_getcpu 168

/* Loads before it are done before those behind it (RVWMO). */
#define read_barrier() __asm__ volatile("fence r, r" ::: "memory")
#define cpu_relax() __asm__ volatile("" ::: "memory")

static inline uint32_t load_acquire(const volatile uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

/* syscall(2): number in a7; arguments a0 to a5; all are kept but a0. */
static inline long syscall3(long nr, long a, long b, long c)
{
    register long a7 __asm__("a7") = nr;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
    return a0;
}

#define syscall2(nr, a, b) syscall3(nr, (long)(a), (long)(b), 0)
