/* The loader: runs in a new program before its first instruction.
 *
 * The tracer writes it into the unused end of the kernel's vDSO and points the program there at
 * the exec stop. It maps the memfd of the clock (page.h), tells the program's libc by
 * AT_SYSINFO_EHDR that the fake image is the vDSO, and jumps to where the kernel would have
 * started. arch/ has the entry, which on failure makes the system call LOADER_FAILED with the result of
 * load(): the step in the upper half, errno in the lower. By then nothing of it is left
 * in the program, and the tracer goes another way.
 */
#include "loader.h"

#if defined(__x86_64__)
#include "arch/x86_64.h"
#elif defined(__i386__)
#include "arch/i386.h"
#elif defined(__aarch64__)
#include "arch/aarch64.h"
#else
#error "no loader for this architecture yet"
#endif

/* asm-generic/mman-common.h, asm-generic/fcntl.h */
#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_FIXED 16
#define MAP_ANONYMOUS 32
#define MAP_FIXED_NOREPLACE 0x100000
#define EEXIST 17
#define MAX_ERRNO 4095 /* linux/err.h */
#define AT_FDCWD (-100)
#define O_RDONLY 0
#define O_CLOEXEC 02000000

static inline int failed(long result)
{
    return (unsigned long)result >= (unsigned long)-MAX_ERRNO;
}

__attribute__((visibility("hidden"))) long load(const struct loader_parameters *p)
{
    enum step step = OPEN;
    long fd = syscall4(NR_openat, AT_FDCWD, (long)p->path, O_RDONLY | O_CLOEXEC, 0);
    if (failed(fd))
        return (long)step << 16 | -fd;

    step = MAP_IMAGE;
    long base = syscall6(NR_mmap, p->address, p->mapping_length, PROT_READ | PROT_EXEC,
                         MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, p->first_page * MMAP_UNIT);
    long result = base, stamps = 0;
    if (!failed(base))
        result = -EEXIST; /* before Linux 4.17 the address is but a hint */
    if (base == (long)p->address) {
        /* In another pid namespace the path may name another file. The cookie is not on the clock
         * page, so that comparing it does not count as reading the clock. */
        step = COMPARE_COOKIE;
        result = -MAX_ERRNO; /* no error has that number */
        const volatile uint64_t *cookie = (const volatile uint64_t *)(base + VDSO_PAGE_SIZE);
        if (cookie[0] == p->cookie[0] && cookie[1] == p->cookie[1]) {
            step = MAP_CLOCK_PAGE;
            result = syscall6(NR_mmap, base, VDSO_PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
#ifdef MAPS_STAMPS_APART
            /* Where there is no room for it the tracer tells what is in it. */
            if (p->stamps_length)
                stamps = syscall6(NR_mmap, 0, p->stamps_length, PROT_READ, MAP_SHARED, fd, p->stamps_page * MMAP_UNIT);
#endif
        }
    }
    syscall1(NR_close, fd);

    if (!failed(result)) {
        step = MAP_PROCESS_PAGE;
        result = syscall6(NR_mmap, base + VDSO_PAGE_SIZE, VDSO_PAGE_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
    if (!failed(result)) {
        volatile unsigned long *to = (volatile unsigned long *)(base + VDSO_PAGE_SIZE);
        const unsigned long *from = (const unsigned long *)&p->process;
        for (unsigned i = 0; i < sizeof p->process / sizeof *from; i++)
            to[i] = from[i];
#ifdef MAPS_STAMPS_APART
        ((volatile struct vdso_process *)to)->stamps = failed(stamps) ? 0 : stamps;
#endif
        step = PROTECT_PAGES;
        result = syscall3(NR_mprotect, base + VDSO_PAGE_SIZE, VDSO_PAGE_SIZE, PROT_READ);
#ifndef MAPS_STAMPS_APART
        /* What stands in it other programs choose. It was mapped as code is, as what was not may not become so everywhere
         * (PR_SET_MDWE). */
        result |= syscall3(NR_mprotect, base + p->mapping_length - p->stamps_length, p->stamps_length, PROT_READ);
#endif
    }
    if (!failed(result)) {
        *(volatile unsigned long *)(uintptr_t)p->sysinfo_ehdr = base + VDSO_HEADER_PAGES * VDSO_PAGE_SIZE;
        return 0;
    }
    if (!failed(base))
        syscall2(NR_munmap, base, p->mapping_length);
    if (!failed(stamps) && stamps)
        syscall2(NR_munmap, stamps, p->stamps_length);
    return (long)step << 16 | -result;
}
