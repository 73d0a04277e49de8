/* The shared page: the one place where its layout is written.
 *
 * A taken-over program sees, from low to high addresses (README.md draws it):
 *
 *   clock page    struct vdso_page, read-only; shared with the tracer, or a private copy
 *   process page  struct vdso_process, read-only; where the kernel's own vDSO is in this process,
 *                 and room for timeouts that the tracer puts in place of the program's own
 *   marker page   never written; readers of a private copy touch it, so that the tracer can
 *                 see in /proc/PID/pagemap that the clock was read
 *   image         the fake vDSO
 *
 * The layout is one for programs of every word size: fields have fixed widths, and stand where any
 * ABI would align them (i386's aligns 64 bits to 4 bytes).
 *
 * pytest_vdsotime/page.py has it from here, by build.py.
 */
#ifndef VDSOTIME_PAGE_H
#define VDSOTIME_PAGE_H

#include <stddef.h>
#include <stdint.h>

#define VDSO_PAGE_SIZE 4096
#define VDSO_HEADER_PAGES 3
#define VDSO_CLOCK_IDS 12 /* CLOCK_REALTIME (0) to CLOCK_TAI (11), linux/time.h */

/* How a clock is read. 0: sec and nsec are the answer. */
enum vdso_read {
    VDSO_MOVING = 1,  /* add the line's way since its start */
    VDSO_PRIVATE = 2, /* this page is a private copy: touch the marker */
    VDSO_TICKING = 4, /* rate 1: sec and nsec are what to add to the host's CLOCK_MONOTONIC */
    VDSO_COARSE = 8,  /* beside VDSO_MOVING: as of the host's last tick, its CLOCK_MONOTONIC_COARSE */
};

/* One clock id: its reading at the start of its line. Seconds and nanoseconds are apart, so that
 * a read of a frozen clock does not divide; nsec is below 10^9, sec may be negative. */
struct vdso_clock {
    int64_t sec;
    uint32_t nsec;
    uint16_t read; /* enum vdso_read */
    uint16_t line; /* index into lines */
};

/* A line: its clocks move by ((host CLOCK_MONOTONIC - start_ns) * mult) >> shift nanoseconds, and do
 * not before start_ns, which may be later than the host's last tick. */
struct vdso_line {
    uint64_t start_ns;
    uint64_t mult;
    uint32_t shift; /* 0 to 63 */
    uint32_t unused;
};

struct vdso_page {
    uint32_t seq;    /* sequence lock: odd while the tracer writes */
    uint32_t served; /* bit per clock id: answered from here; any other id is the kernel's to answer */
    struct vdso_line lines[2]; /* wall, monotonic */
    struct vdso_clock clocks[VDSO_CLOCK_IDS];
};

/* Entry points of the kernel's own vDSO in this process; 0 where it has none. */
struct vdso_process {
    uint64_t clock_gettime; /* with 64-bit seconds: i386's __vdso_clock_gettime64; never 0 */
    uint64_t gettimeofday;
    uint64_t clock_getres;
    uint64_t getcpu;
    uint64_t getrandom;
    uint64_t sgx_enter_enclave;
    uint64_t syscall_return; /* i386: where a call by __kernel_vsyscall goes on, or 0 */
    uint64_t mark[2]; /* the clock's cookie: this is still what was put here */
    uint64_t stamps;  /* where the history of the wall line is mapped (stamps.h), or 0 */
};

_Static_assert(sizeof(struct vdso_clock) == 16, "vdso_clock");
_Static_assert(sizeof(struct vdso_line) == 24, "vdso_line");
_Static_assert(offsetof(struct vdso_page, lines) == 8, "lines");
_Static_assert(offsetof(struct vdso_page, clocks) == 56, "clocks");
_Static_assert(sizeof(struct vdso_page) == 248, "vdso_page");
_Static_assert(sizeof(struct vdso_process) == 80, "vdso_process");

#endif
