// run: machine=x86_64 start=2038-01-19T03:14:08Z files=follow on=static,i386 bare=passes
// run: machine=x86_64 start=2038-01-19T03:14:08Z files=follow native=no on=static,i386 bare=never
// run: machine=x86_64 start=now files=follow on=static bare=never
/* After a system call about the times of a file, all registers and flags are as the kernel leaves them, and so is what
 * lies below the stack pointer as far as a function may use it (System V ABI x86-64, 3.2.2; i386 has none of that). */
#include "files.h"
#include <sys/auxv.h>

#define CALLER (1 << 14)

#ifdef __i386__
#define USED_BELOW 0
enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, FLAGS, RSP, REGISTERS };
#define PLACES {RAX, RBX, RCX, RDX, RSI, RDI}
#else
#define USED_BELOW 128
enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R9, R10, R11, R12, R13, R14, R15, FLAGS, RSP, REGISTERS };
#define PLACES {RAX, RDI, RSI, RDX, R10, R8}
#endif
#define RESUMED 0x10000 /* the flag RF, which no instruction sees */
uintptr_t before[REGISTERS], after[REGISTERS], own_stack;
unsigned char area[CALLER];
extern const char behind_call[];
void call_with_registers(void);

#ifdef __i386__
__asm__(".text\ncall_with_registers:\n"
        "push %ebx; push %ebp; push %esi; push %edi\n"
        "mov %esp, own_stack\n"
        "mov before, %eax; mov before+4, %ebx; mov before+8, %ecx; mov before+12, %edx; mov before+16, %esi\n"
        "mov before+20, %edi; mov before+24, %ebp\n"
        "lea area+8192+4, %esp; push before+28; popf; mov before+32, %esp\n"
        "call *enter_kernel\n"
        "behind_call: mov %esp, after+32; lea area+8192+4, %esp; pushf; pop after+28\n"
        "mov %eax, after; mov %ebx, after+4; mov %ecx, after+8; mov %edx, after+12; mov %esi, after+16\n"
        "mov %edi, after+20; mov %ebp, after+24\n"
        "mov own_stack, %esp; push $2; popf\n"
        "pop %edi; pop %esi; pop %ebp; pop %ebx; ret\n"
        "by_interrupt: int $0x80; ret\n");
extern const char by_interrupt[];
uintptr_t enter_kernel = (uintptr_t)by_interrupt; /* or __kernel_vsyscall */
#else
__asm__(".text\ncall_with_registers:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, own_stack(%rip); mov before+128(%rip), %rsp\n"
        "mov before(%rip), %rax; mov before+8(%rip), %rbx; mov before+24(%rip), %rdx; mov before+32(%rip), %rsi\n"
        "mov before+40(%rip), %rdi; mov before+48(%rip), %rbp; mov before+56(%rip), %r8; mov before+64(%rip), %r9\n"
        "mov before+72(%rip), %r10; mov before+88(%rip), %r12; mov before+96(%rip), %r13; mov before+104(%rip), %r14\n"
        "mov before+112(%rip), %r15\n"
        "lea area+8192+8(%rip), %rsp; push before+120(%rip); popfq; mov before+128(%rip), %rsp\n"
        "syscall\n"
        "behind_call: mov %rsp, after+128(%rip); lea area+8192+8(%rip), %rsp; pushfq; pop after+120(%rip)\n"
        "mov %rax, after(%rip); mov %rbx, after+8(%rip); mov %rcx, after+16(%rip); mov %rdx, after+24(%rip)\n"
        "mov %rsi, after+32(%rip); mov %rdi, after+40(%rip); mov %rbp, after+48(%rip); mov %r8, after+56(%rip)\n"
        "mov %r9, after+64(%rip); mov %r10, after+72(%rip); mov %r11, after+80(%rip); mov %r12, after+88(%rip)\n"
        "mov %r13, after+96(%rip); mov %r14, after+104(%rip); mov %r15, after+112(%rip)\n"
        "mov own_stack(%rip), %rsp; push $2; popfq\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");
#endif

static void check_call(const char *name, long result, uintptr_t flags, const long *arguments)
{
    static const int places[] = PLACES;
    unsigned char *stack = area + CALLER / 4;
    for (int place = RAX; place < REGISTERS; place++)
        before[place] = UINTPTR_MAX / 15 * (place + 1);
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
        before[places[i]] = arguments[i];
    before[FLAGS] = flags;
    before[RSP] = (uintptr_t)stack;
    memset(area, 0x5a, CALLER / 4);
    call_with_registers();
    before[RAX] = result;
    after[FLAGS] &= ~RESUMED;
#ifndef __i386__
    before[RCX] = (uintptr_t)behind_call;
    before[R11] = flags;
    after[R11] &= ~RESUMED;
#endif
    for (int place = RAX; place < REGISTERS; place++)
        if (after[place] != before[place]) {
            dprintf(2, "%s: register %d is %lx, not %lx\n", name, place, (long)after[place], (long)before[place]);
            _exit(1);
        }
    for (int i = 1; i <= USED_BELOW; i++)
        CHECK_EQUAL(stack[-i], 0x5a);
}

static void check_form(const struct form *form, const char *path, long fd, uintptr_t flags, long result)
{
    long to = (long)answer, at = AT_FDCWD, name = (long)path;
    const long all[][6] = {
        [BY_PATH] = {form->number, name, to, 3, 4, 5},
        [BY_LINK] = {form->number, name, to, 3, 4, 5},
        [BY_FD] = {form->number, fd, to, 3, 4, 5},
        [BY_AT] = {form->number, at, name, to, NO_FOLLOW, 5},
        [BY_AT_FD] = {form->number, fd, (long)"", to, EMPTY_PATH, 5},
        [BY_STATX] = {form->number, at, name, NO_FOLLOW, STATX_ALL_, to},
        [BY_STATX_FD] = {form->number, fd, (long)"", EMPTY_PATH, STATX_ALL_, to},
    };
    check_call(form->name, HAS_PATH(form) || result != -ENOENT ? result : -EBADF, flags, all[form->how]);
}

int main(int argc, char **argv)
{
    /* carry, parity, adjust, zero, sign, direction, overflow, alignment check, identification */
    static const uintptr_t flags[] = {0, 1, 4, 0x10, 0x40, 0x80, 0x400, 0x800, 0xcd5, 0x40000, 0x200000};
    struct timespec ts;
    CHECK(argc == 3 && argv[2]);
    enter_directory();
    CHECK(clock_gettime(CLOCK_REALTIME, &ts) == 0);
    int fd = make_file("f");
    for (int round = 0; round < 4; round++) {
#ifdef __i386__
        enter_kernel = round % 2 ? getauxval(AT_SYSINFO) : (uintptr_t)by_interrupt;
        CHECK(enter_kernel);
#endif
        for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
            for (const struct form *form = forms; form < forms + FORMS; form++) {
                check_form(form, "f", fd, flags[i] | 0x202, is_refused(form, fd, NULL) ? -EOVERFLOW : 0);
                check_form(form, "nothing", 999, flags[i] | 0x202, -ENOENT);
            }
        /* From now on the clock may have to tell what is set from what is written. */
        const struct timespec later[] = {{ts.tv_sec + 60, 5}, {ts.tv_sec + 60, 5}};
        CHECK(round % 2 == 0 || futimens(fd, later) == 0);
    }
    CHECK(close(fd) == 0);
    return success();
}
