// built: on=riscv64
/* A 64-bit process at the orders of a test (tests/unit/test_stub_riscv64.py): it has memory in which the test lays out
 * header pages and the image of the fake vDSO as a program has them, and calls what it is told to. Orders come on stdin,
 * answers go to stdout; the first is struct places. It has no libc, which zig would compile for this program alone. */
#include <stdint.h>

/* include/uapi/asm-generic/unistd.h; arch/riscv/include/uapi/asm/unistd.h */
enum { NR_READ = 63, NR_WRITE = 64, NR_EXIT_GROUP = 94, NR_MMAP = 222, NR_FLUSH_ICACHE = 259 };

/* mmap(2): include/uapi/asm-generic/mman-common.h, include/uapi/linux/mman.h */
enum { READ_WRITE_EXECUTE = 7, PRIVATE_ANONYMOUS = 0x22 };

enum { CLOCK_MONOTONIC = 1, CLOCK_MONOTONIC_COARSE = 6 };

enum { WRITE = 1, READ, CALL };

struct order { uint64_t what, address, a, b; };

/* What a host's clock_gettime says when the test decides it: its monotonic clock, and that at its last tick. */
static struct { int64_t sec, nsec; } host[2];

/* syscall(2) */
static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                     : "memory");
    return a0;
}

static _Noreturn void end(int status)
{
    call(NR_EXIT_GROUP, status, 0, 0, 0, 0, 0);
    __builtin_unreachable();
}

static void check(int is_so)
{
    if (!is_so)
        end(1);
}

static int read_host(int id, int64_t *ts)
{
    check(id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE);
    ts[0] = host[id == CLOCK_MONOTONIC_COARSE].sec;
    ts[1] = host[id == CLOCK_MONOTONIC_COARSE].nsec;
    return 0;
}

static void answer(const void *data, uint64_t size)
{
    check(call(NR_WRITE, 1, (long)data, size, 0, 0, 0) == (long)size);
}

/* False at the end of the orders. */
static int receive(void *data, uint64_t size)
{
    for (uint64_t done = 0; done < size;) {
        long n = call(NR_READ, 0, (long)data + done, size - done, 0, 0, 0);
        check(n >= 0);
        if (n == 0)
            return 0;
        done += n;
    }
    return 1;
}

__attribute__((used)) void _start(void)
{
    long size = 16 * 4096;
    long memory = call(NR_MMAP, 0, size, READ_WRITE_EXECUTE, PRIVATE_ANONYMOUS, -1, 0);
    check(memory > 0);
    struct places { uint64_t memory, host, read_host; } places = {
        memory, (uint64_t)host, (uint64_t)read_host};
    answer(&places, sizeof places);

    struct order order;
    while (receive(&order, sizeof order)) {
        void *address = (void *)order.address;
        int64_t result;
        switch (order.what) {
        case WRITE: check(receive(address, order.a)); break;
        case READ: answer(address, order.a); break;
        case CALL:
            check(call(NR_FLUSH_ICACHE, memory, memory + size, 0, 0, 0, 0) == 0);
            result = ((int (*)(uint64_t, uint64_t, uint64_t))address)(order.a, order.b, 0);
            answer(&result, sizeof result);
            break;
        default: end(1);
        }
    }
    end(0);
}
