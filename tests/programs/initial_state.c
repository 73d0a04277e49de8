// run: machine=x86_64 on=freestanding bare=passes args=one,two
// run: machine=x86_64 on=freestanding bare=passes
/* What a program finds at its first instruction is what the kernel gives: every register, the stack
 * (argc, argv, environment, auxiliary vector), no descriptor too many. */
#include <stdint.h>

/* elf.h */
enum { AT_NULL = 0, AT_PHDR = 3, AT_PAGESZ = 6, AT_BASE = 7, AT_ENTRY = 9, AT_SECURE = 23,
       AT_RANDOM = 25, AT_EXECFN = 31, AT_SYSINFO_EHDR = 33, ELF_MAGIC = 0x464c457f };

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail("initial_state: not " #condition "\n");                                           \
    } while (0)

/* arch/x86/entry/syscalls/syscall_64.tbl */
enum { WRITE = 1, FCNTL = 72, ALTSTACK = 131, PRCTL = 157, ARCH_PRCTL = 158, EXIT_GROUP = 231 };

static long call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = 0; /* prctl(2) refuses what it does not use and is not zero */
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static unsigned length(const char *text)
{
    unsigned n = 0;
    while (text[n])
        n++;
    return n;
}

static void fail(const char *why)
{
    call(WRITE, 2, (long)why, length(why), 0);
    call(EXIT_GROUP, 1, 0, 0, 0);
    __builtin_unreachable();
}

/* In the order in which _start pushes them. */
struct registers {
    uint64_t flags, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
};

__asm__(".globl _start\n"
        "_start:\n"
        "    push %rax; push %rbx; push %rcx; push %rdx; push %rsi; push %rdi; push %rbp; push %r8\n"
        "    push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15; pushfq\n"
        "    mov %rsp, %rdi\n"
        "    lea 128(%rsp), %rsi\n"
        "    and $-16, %rsp\n"
        "    call check\n");

extern char _start[];

static void check_registers(const struct registers *r)
{
    uint32_t mxcsr;
    uint16_t x87;
    unsigned long base = 1;

    CHECK(r->rdx == 0); /* the ABI's "nothing to register with atexit" */
    CHECK(!(r->rax | r->rbx | r->rcx | r->rsi | r->rdi | r->rbp | r->r8 | r->r9 | r->r10));
    CHECK(!(r->r11 | r->r12 | r->r13 | r->r14 | r->r15));
    CHECK((r->flags & ~0x246ul) == 0); /* interrupts on; no direction, trap or carry flag */
    __asm__("stmxcsr %0" : "=m"(mxcsr));
    __asm__("fnstcw %0" : "=m"(x87));
    CHECK(mxcsr == 0x1f80 && x87 == 0x37f);
    CHECK(call(ARCH_PRCTL, 0x1003 /* ARCH_GET_FS */, (long)&base, 0, 0) == 0 && base == 0);
    CHECK(call(ARCH_PRCTL, 0x1004 /* ARCH_GET_GS */, (long)&base, 0, 0) == 0 && base == 0);
}

static void check_auxv(const uint64_t *auxv, const char *argv0)
{
    unsigned seen = 0;
    for (; auxv[0] != AT_NULL; auxv += 2) {
        switch (auxv[0]) {
        case AT_ENTRY: CHECK(auxv[1] == (uint64_t)_start); seen++; break;
        case AT_PAGESZ: CHECK(auxv[1] == 4096); seen++; break;
        case AT_SECURE: CHECK(auxv[1] == 0); seen++; break;
        case AT_BASE: CHECK(auxv[1] == 0); break;
        case AT_RANDOM: CHECK(auxv[1]); seen++; break;
        case AT_PHDR: CHECK(*(uint32_t *)auxv[1]); seen++; break;
        case AT_EXECFN:
            for (unsigned i = 0; i <= length(argv0); i++)
                CHECK(((char *)auxv[1])[i] == argv0[i]);
            seen++;
            break;
        case AT_SYSINFO_EHDR: CHECK(*(uint32_t *)auxv[1] == ELF_MAGIC); seen++; break;
        }
    }
    CHECK(seen == 7);
}

/* What a starter cannot decide. The rest is compared with a bare start: helpers/report.c. */
static void check_process(void)
{
    uint64_t altstack[3];
    int death_signal = 1;

    CHECK(call(ALTSTACK, 0, (long)altstack, 0, 0) == 0 && (altstack[1] & 0xffffffff) == 2);
    CHECK(call(PRCTL, 2 /* PR_GET_PDEATHSIG */, (long)&death_signal, 0, 0) == 0);
    CHECK(death_signal == 0);
    for (int fd = 3; fd < 1024; fd++)
        CHECK(call(FCNTL, fd, 1 /* F_GETFD */, 0, 0) == -9 /* EBADF */);
}

__attribute__((used)) void check(const struct registers *registers, const uint64_t *stack)
{
    uint64_t argc = stack[0];
    char **argv = (char **)&stack[1];
    char **envp = argv + argc + 1;

    check_registers(registers);
    CHECK((uint64_t)stack % 16 == 0);
    CHECK(argc == 3 || argc == 5);
    for (unsigned i = 0; i < argc; i++)
        CHECK(argv[i]);
    CHECK(!argv[argc]);
    CHECK(argc == 3 || (argv[3][0] == 'o' && argv[3][3] == 0 && argv[4][0] == 't'));
    while (*envp)
        CHECK(length(*envp++));
    check_auxv((const uint64_t *)(envp + 1), argv[0]);
    check_process();
    call(WRITE, 1, (long)"EXIT-SUCCESS\n", 13, 0);
    call(EXIT_GROUP, 0, 0, 0, 0);
}
