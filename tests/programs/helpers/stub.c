/* A 64-bit process at the orders of a test (tests/unit/test_stub_riscv64.py): it has memory in which the test lays out
 * header pages and the image of the fake vDSO as a program has them, and calls what it is told to. Orders come on stdin,
 * answers go to stdout; the first is struct places. */
#include "../check.h"
#include <sys/mman.h>

enum { WRITE = 1, READ, CALL };

struct order { uint64_t what, address, a, b; };

/* What a host's clock_gettime says when the test decides it: its monotonic clock, and that at its last tick. */
static struct { int64_t sec, nsec; } host[2];

static int read_host(int id, void *ts)
{
    CHECK(id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE);
    memcpy(ts, &host[id == CLOCK_MONOTONIC_COARSE], sizeof *host);
    return 0;
}

static void answer(const void *data, size_t size)
{
    CHECK_EQUAL(write(1, data, size), (long)size);
}

/* False at the end of the orders. */
static int receive(void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read(0, (char *)data + done, size - done);
        CHECK(n >= 0);
        if (n == 0)
            return 0;
        done += n;
    }
    return 1;
}

int main(void)
{
    int access = PROT_READ | PROT_WRITE | PROT_EXEC;
    char *memory = mmap(NULL, 16 * 4096, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    struct places { uint64_t memory, host, read_host; } places = {
        (uint64_t)memory, (uint64_t)host, (uint64_t)read_host};
    answer(&places, sizeof places);

    struct order order;
    while (receive(&order, sizeof order)) {
        void *address = (void *)order.address;
        int64_t result;
        switch (order.what) {
        case WRITE: CHECK(receive(address, order.a)); break;
        case READ: answer(address, order.a); break;
        case CALL:
            __builtin___clear_cache(memory, memory + 16 * 4096);
            result = ((int (*)(uint64_t, uint64_t, uint64_t))address)(order.a, order.b, 0);
            answer(&result, sizeof result);
            break;
        default: CHECK(!"an order");
        }
    }
    return 0;
}
