// built: on=i386
/* A 32-bit process at the orders of a test (tests/unit/test_stub_i386.py): it has memory in which
 * the test lays out header pages and the image of the fake vDSO as a program has them, and calls
 * what it is told to. Orders come on stdin, answers go to stdout; the first is struct places. */
#include "../check.h"
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { WRITE = 1, READ, CALL, START };

struct order { uint32_t what, address, a, b; };

/* What a host's __vdso_clock_gettime64 says when the test decides it: its monotonic clock, and that at its last tick. */
static struct { int64_t sec, nsec; } host[2];

static int read_host(int id, void *ts)
{
    CHECK(id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE);
    memcpy(ts, &host[id == CLOCK_MONOTONIC_COARSE], sizeof *host);
    return 0;
}

/* What a START ends with; ip is that of a trap, else 0. */
struct registers { uint32_t ax, bx, cx, dx, si, di, bp, sp, ip; } registers;
uint32_t own_stack;
extern char entered, leave;
void start(uint32_t address, uint32_t stack);

/* `start` goes to the loader as from an exec event, but with registers that the loader must clear;
 * `entered` is where the program begins. */
__asm__(".text\n"
        "start:\n"
        "    pushal\n"
        "    movl 36(%esp), %eax; movl 40(%esp), %ecx\n"
        "    movl %esp, own_stack; movl %ecx, %esp; pushl %eax\n"
        "    movl $0x55555555, %ebx; movl %ebx, %ecx; movl %ebx, %edx\n"
        "    movl %ebx, %esi; movl %ebx, %edi; movl %ebx, %ebp; xorl %eax, %eax\n"
        "    ret\n"
        "entered:\n"
        "    movl %eax, registers; movl %ebx, registers + 4; movl %ecx, registers + 8\n"
        "    movl %edx, registers + 12; movl %esi, registers + 16; movl %edi, registers + 20\n"
        "    movl %ebp, registers + 24; movl %esp, registers + 28; movl $0, registers + 32\n"
        "leave:\n"
        "    movl own_stack, %esp; popal; ret\n");

static void on_trap(int number, siginfo_t *info, void *context)
{
    greg_t *of = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number, (void)info;
    registers = (struct registers){of[REG_EAX], of[REG_EBX], of[REG_ECX], of[REG_EDX], of[REG_ESI],
                                   of[REG_EDI], of[REG_EBP], of[REG_ESP], of[REG_EIP]};
    of[REG_EIP] = (greg_t)&leave;
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
    static char signal_stack[65536];
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    size_t size = 16 * 4096;
    int access = PROT_READ | PROT_WRITE | PROT_EXEC;
    char *memory = mmap(NULL, size, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGTRAP, &action, NULL) == 0);

    struct places { uint32_t memory, kernel, host, read_host, entered; } places = {
        (uint32_t)memory, getauxval(AT_SYSINFO_EHDR), (uint32_t)host, (uint32_t)read_host,
        (uint32_t)&entered};
    answer(&places, sizeof places);

    struct order order;
    while (receive(&order, sizeof order)) {
        void *address = (void *)order.address;
        uint32_t result;
        switch (order.what) {
        case WRITE: CHECK(receive(address, order.a)); break;
        case READ: answer(address, order.a); break;
        case CALL:
            result = ((uint32_t (*)(uint32_t, uint32_t, uint32_t))address)(order.a, order.b, 0);
            answer(&result, sizeof result);
            break;
        case START:
            start(order.address, order.a);
            answer(&registers, sizeof registers);
            break;
        default: CHECK(!"an order");
        }
    }
    return 0;
}
