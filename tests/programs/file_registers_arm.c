// run: machine=aarch64 start=2038-01-19T03:14:08Z files=follow on=static bare=passes
// run: machine=aarch64 start=2038-01-19T03:14:08Z files=follow native=no on=static bare=never
/* As file_registers.c, on 64-bit Arm. The calls are made near to the vDSO, as those of libraries are, and not so near. */
#include "files.h"
#include <sys/mman.h>

#define CODE_AREA 65536

enum { FLAGS = 31, REGISTERS };
uint64_t before[REGISTERS], after[REGISTERS];
extern const char code_begin[], code_end[];
typedef void code(const uint64_t *, uint64_t *);

__asm__(".text\ncode_begin:\n"
        "stp x19, x20, [sp, #-112]!; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]; stp x25, x26, [sp, #48]\n"
        "stp x27, x28, [sp, #64]; stp x29, x30, [sp, #80]; str x1, [sp, #96]; str x18, [sp, #104]\n"
        "ldr x1, [x0, #248]; msr nzcv, x1\n"
        ".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30\n"
        "ldr x\\n, [x0, #8 * \\n]\n"
        ".endr\n"
        "ldr x0, [x0]\n"
        "svc #0\n"
        "stp x0, x1, [sp, #-16]!; ldr x0, [sp, #112]\n"
        ".irp n, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30\n"
        "str x\\n, [x0, #8 * \\n]\n"
        ".endr\n"
        "mrs x1, nzcv; str x1, [x0, #248]; ldp x1, x2, [sp], #16; stp x1, x2, [x0]\n"
        "ldr x18, [sp, #104]; ldp x29, x30, [sp, #80]; ldp x27, x28, [sp, #64]; ldp x25, x26, [sp, #48]\n"
        "ldp x23, x24, [sp, #32]; ldp x21, x22, [sp, #16]; ldp x19, x20, [sp], #112; ret\n"
        "code_end:\n");

static void check_form(code *make_call, const struct form *form, const char *path, long fd, uint64_t flags, long result)
{
    long to = (long)answer, at = AT_FDCWD, name = (long)path;
    const long all[][5] = {
        [BY_FD] = {fd, to, 3, 4, 5},
        [BY_AT] = {at, name, to, NO_FOLLOW, 5},
        [BY_AT_FD] = {fd, (long)"", to, EMPTY_PATH, 5},
        [BY_STATX] = {at, name, NO_FOLLOW, STATX_ALL_, to},
        [BY_STATX_FD] = {fd, (long)"", EMPTY_PATH, STATX_ALL_, to},
    };
    for (int place = 0; place < FLAGS; place++)
        before[place] = 0x0101010101010101 * (place + 1);
    for (int i = 0; i < 5; i++)
        before[i] = all[form->how][i];
    before[8] = form->number;
    before[FLAGS] = flags;
    make_call(before, after);
    before[0] = HAS_PATH(form) || result != -ENOENT ? result : -EBADF;
    for (int place = 0; place < REGISTERS; place++)
        if (after[place] != before[place]) {
            dprintf(2, "%s: register %d is %lx, not %lx\n", form->name, place, (long)after[place], (long)before[place]);
            _exit(1);
        }
}

int main(int argc, char **argv)
{
    CHECK(argc == 3 && argv[2]);
    enter_directory();
    int fd = make_file("f");
    size_t size = code_end - code_begin;
    char *there = mmap(NULL, 2 * CODE_AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(there != MAP_FAILED && size < CODE_AREA / 2);
    /* More places than a table of the image has room for, some of which share one there. */
    for (size_t at = 0; at + size <= 2 * CODE_AREA; at += size)
        memcpy(there + at, code_begin, size);
    __builtin___clear_cache(there, there + 2 * CODE_AREA);
    CHECK(mprotect(there, 2 * CODE_AREA, PROT_READ | PROT_EXEC) == 0);
    for (int round = 0; round < 2; round++)
        for (uint64_t flags = 0; flags < 16; flags++)
            for (const struct form *form = forms; form < forms + FORMS; form++) {
                code *near = (code *)(there + (flags * 7 + round) % (2 * CODE_AREA / size) * size);
                for (int which = 0; which < 2; which++) {
                    code *make_call = which ? near : (code *)code_begin;
                    check_form(make_call, form, "f", fd, flags << 28, 0);
                    check_form(make_call, form, "nothing", 999, flags << 28, -ENOENT);
                }
            }
    CHECK(close(fd) == 0);
    return success();
}
