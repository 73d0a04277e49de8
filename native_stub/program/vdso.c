/* The fake vDSO: what a taken-over program calls for the time.
 *
 * No libc, no writable data, no relocations: the image is mapped as it is, at any address. Its
 * data are the three pages in front of it (page.h), reached relative to the instruction pointer.
 * Signatures and results are the kernel's: arch/x86/entry/vdso/vclock_gettime.c and
 * lib/vdso/gettimeofday.c. A bad pointer faults here as it does in the kernel's vDSO.
 */
#include "loader_failed.h"
#include "page.h"

#if defined(__x86_64__)
#include "arch/x86_64.h"
#elif defined(__i386__)
#include "arch/i386.h"
#elif defined(__aarch64__)
#include "arch/aarch64.h"
#elif defined(__riscv) && __riscv_xlen == 64
#include "arch/riscv64.h"
#else
#error "no fake vDSO for this architecture yet"
#endif

#include "spans.h"
#include "stamps.h"

#define HIDDEN extern __attribute__((visibility("hidden")))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define CLOCK_REALTIME 0
#define CLOCK_MONOTONIC 1
#define CLOCK_REALTIME_COARSE 5
#define CLOCK_MONOTONIC_COARSE 6
#define ENOSYS 38

/* As in the kernel's own image: its release, LINUX_VERSION_CODE (linux/version.h), which some C libraries
 * compare with the oldest that they run on. The tracer puts the host's in (image.py); until then it is the
 * highest. A struct Elf32_Nhdr or Elf64_Nhdr, which are the same (elf(5)), with name and content. */
static const struct {
    uint32_t name_size, content_size, type;
    char name[8];
    uint32_t release;
} note __attribute__((used, aligned(4), section(".note.Linux"))) = {6, 4, 0, "Linux", 0xffffff};

HIDDEN const volatile struct vdso_page vdso_clock_page;
HIDDEN const struct vdso_process vdso_process_page;
HIDDEN const volatile unsigned char vdso_marker_page;

/* struct __kernel_timespec, and the older types, whose fields are as wide as the program's words
 * (include/uapi/linux/time_types.h, include/vdso/time32.h): 32-bit ones get seconds cut, as the
 * kernel's own functions cut them (__cvdso_clock_gettime32 of lib/vdso/gettimeofday.c). */
struct timespec { int64_t sec; int64_t nsec; };
struct old_timespec { long sec; long nsec; };
struct timeval { long sec; long usec; };

typedef long clock_fn(int, struct timespec *);
typedef long old_clock_fn(int, struct old_timespec *);
typedef long timeofday_fn(struct timeval *, void *);
typedef long getcpu_fn(unsigned *, unsigned *, void *);
typedef long getrandom_fn(void *, size_t, unsigned, void *, size_t);

#define REAL(name, type) ((type *)(uintptr_t)vdso_process_page.name)

/* Nanoseconds that a line has moved by a clock of the host's. Clamped at both ends: the line may have
 * started since the host's last tick, and as in the kernel, whose coarse clocks are exact when its
 * clock has just been set, they are then at its start (do_settimeofday64, kernel/time/timekeeping.c);
 * and a fast line stops after 292 years instead of wrapping. */
static uint64_t moved_ns(int host_id, uint64_t start_ns, uint64_t mult, uint32_t shift)
{
    struct timespec host;
    REAL(clock_gettime, clock_fn)(host_id, &host);
    int64_t elapsed = host.sec * (int64_t)SECOND_NS + host.nsec - (int64_t)start_ns;
    if (elapsed <= 0)
        return 0;
    return scale_ns((uint64_t)elapsed, mult, shift);
}

static __attribute__((noinline)) void read_slowly(unsigned id, struct timespec *ts)
{
    const volatile struct vdso_page *page = &vdso_clock_page;
    const volatile struct vdso_clock *clock = &page->clocks[id];
    struct timespec host;
    uint64_t way;
    int64_t sec;
    uint32_t seq, nsec, read;

    do {
        while ((seq = load_acquire(&page->seq)) & 1)
            cpu_relax();
        sec = clock->sec;
        nsec = clock->nsec;
        read = clock->read;
        way = 0;
        if (LIKELY(read & VDSO_TICKING)) {
            REAL(clock_gettime, clock_fn)(CLOCK_MONOTONIC, &host);
        } else if (read & VDSO_MOVING) {
            const volatile struct vdso_line *line = &page->lines[clock->line & 1];
            int host_id = read & VDSO_COARSE ? CLOCK_MONOTONIC_COARSE : CLOCK_MONOTONIC;
            way = moved_ns(host_id, line->start_ns, line->mult, line->shift & 63);
        }
        read_barrier();
    } while (page->seq != seq);
    if (read & VDSO_PRIVATE)
        (void)vdso_marker_page;
    /* No multiplication and no division: the kernel's own read begins with a fence that waits for
     * whatever is still being computed, so each cycle here would count. And no clamp: the reader has
     * seen these lines before it sampled the host. */
    if (LIKELY(read & VDSO_TICKING)) {
        int64_t sum = host.nsec + nsec;
        int64_t carry = sum >= SECOND_NS;
        ts->sec = sec + host.sec + carry;
        ts->nsec = sum - (carry ? SECOND_NS : 0);
        return;
    }
    ts->sec = sec + (int64_t)split_ns(way + nsec, &nsec);
    ts->nsec = nsec;
}

/* The hot path: a frozen clock on the shared page is a handful of loads. False where the clock
 * may flow. */
static inline __attribute__((always_inline)) int read_frozen(unsigned id, struct timespec *ts)
{
    const volatile struct vdso_page *page = &vdso_clock_page;
    const volatile struct vdso_clock *clock = &page->clocks[id];
    uint32_t seq = load_acquire(&page->seq);
    int64_t sec = clock->sec;
    uint32_t nsec = clock->nsec;
    uint32_t read = clock->read;
    read_barrier();
    if (!LIKELY(!(seq & 1) && !read && page->seq == seq))
        return 0;
    ts->sec = sec;
    ts->nsec = nsec;
    return 1;
}

static inline __attribute__((always_inline)) void read_clock(unsigned id, struct timespec *ts)
{
    if (!LIKELY(read_frozen(id, ts)))
        read_slowly(id, ts);
}

static inline int is_served(unsigned id)
{
    return id < VDSO_CLOCK_IDS && vdso_clock_page.served >> id & 1;
}

/* CPU-time and fd-based clocks stay real, ids that the host refuses are refused by the host. */
#ifdef HAVE_TIME64
long __vdso_clock_gettime64(int id, struct timespec *ts)
{
    if (!LIKELY(is_served((unsigned)id)))
        return syscall2(NR_clock_gettime64, id, ts);
    read_clock((unsigned)id, ts);
    return 0;
}

long __vdso_clock_gettime(int id, struct old_timespec *ts)
{
    struct timespec now;
    if (!LIKELY(is_served((unsigned)id)))
        return syscall2(NR_clock_gettime, id, ts);
    read_clock((unsigned)id, &now);
    ts->sec = (long)now.sec;
    ts->nsec = (long)now.nsec;
    return 0;
}

/* Kernels before 5.1 answer -ENOSYS, which makes libc use the older call, as without the symbol. */
long __vdso_clock_getres_time64(int id, struct timespec *res)
{
    return syscall2(NR_clock_getres_time64, id, res);
}
#else
long __vdso_clock_gettime(int id, struct timespec *ts)
{
    if (!LIKELY(is_served((unsigned)id)))
        return syscall2(NR_clock_gettime, id, (long)ts);
    read_clock((unsigned)id, ts);
    return 0;
}
#endif

long __vdso_clock_getres(int id, struct old_timespec *res)
{
    return REAL(clock_getres, old_clock_fn)
        ? REAL(clock_getres, old_clock_fn)(id, res)
        : syscall2(NR_clock_getres, id, (long)res);
}

#ifdef HAVE_GETTIMEOFDAY
/* The timezone is the kernel's own setting, not time. */
long __vdso_gettimeofday(struct timeval *tv, void *tz)
{
    if (tv) {
        struct timespec ts;
        read_clock(CLOCK_REALTIME, &ts);
        tv->sec = (long)ts.sec;
        tv->usec = (uint32_t)ts.nsec / 1000;
    }
    if (!tz)
        return 0;
    return REAL(gettimeofday, timeofday_fn)
        ? REAL(gettimeofday, timeofday_fn)(0, tz)
        : syscall2(NR_gettimeofday, 0, tz);
}
#endif

#ifdef HAVE_TIME
/* The kernel's are the coarse clock's seconds (__cvdso_time of lib/vdso/gettimeofday.c). */
long __vdso_time(long *t)
{
    struct timespec ts;
    if (!LIKELY(read_frozen(CLOCK_REALTIME, &ts)))
        read_slowly(is_served(CLOCK_REALTIME_COARSE) ? CLOCK_REALTIME_COARSE : CLOCK_REALTIME, &ts);
    if (t)
        *t = (long)ts.sec;
    return (long)ts.sec;
}
#endif

#ifdef HAVE_GETCPU
long __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused)
{
    return REAL(getcpu, getcpu_fn)
        ? REAL(getcpu, getcpu_fn)(cpu, node, unused)
        : syscall3(NR_getcpu, (long)cpu, (long)node, (long)unused);
}
#endif

#ifdef HAVE_GETRANDOM
/* Kernels before 6.11 have none; -ENOSYS makes libc use the system call, as without the symbol. */
long __vdso_getrandom(void *buf, size_t len, unsigned flags, void *state, size_t state_len)
{
    return REAL(getrandom, getrandom_fn)
        ? REAL(getrandom, getrandom_fn)(buf, len, flags, state, state_len)
        : -ENOSYS;
}
#endif

#ifdef HAVE_WEAK_NAMES
#define WEAK_NAME(name) \
    __attribute__((weak, alias("__vdso_" #name))) long name()

#pragma clang diagnostic ignored "-Wincompatible-library-redeclaration"
#pragma clang diagnostic ignored "-Wdeprecated-non-prototype"
#pragma clang diagnostic ignored "-Wstrict-prototypes"
WEAK_NAME(clock_gettime);
WEAK_NAME(clock_getres);
WEAK_NAME(getcpu);
#ifdef HAVE_GETRANDOM
WEAK_NAME(getrandom);
#endif
#ifdef HAVE_GETTIMEOFDAY
WEAK_NAME(gettimeofday);
#endif
#ifdef HAVE_TIME
WEAK_NAME(time);
#endif
#endif

#ifdef HAVE_STAMP_RETURNS

#define MOST_STAMPS 4

struct stamp { int64_t sec; uint32_t nsec; };

/* Where a system call leaves stamps: how wide their seconds are and the nanoseconds behind these, 0 where it tells none. `nr`: of
 * one that leaves such a record. */
static const struct record {
    uint16_t nr;
    uint8_t places[MOST_STAMPS], second_size, nanosecond_size;
} records[] = {STAMP_RECORDS};

/* What is cut was so by the kernel (cp_new_stat, fs/stat.c). */
static struct stamp read_record(const struct record *how, const unsigned char *at)
{
    int64_t sec = how->second_size == 8 ? *(const int64_t *)at : *(const uint32_t *)at;
    return (struct stamp){sec, how->nanosecond_size ? *(const uint32_t *)(at + how->second_size) : 0};
}

static void write_record(const struct record *how, unsigned char *at, const struct stamp *stamp)
{
    if (how->second_size == 8)
        *(int64_t *)at = stamp->sec;
    else
        *(uint32_t *)at = (uint32_t)stamp->sec;
    if (how->nanosecond_size)
        *(uint32_t *)(at + how->second_size) = stamp->nsec;
}

/* At the return of a stat that has succeeded: the stamps that it has left become the clock's. */
__attribute__((visibility("hidden"))) void tell_stamps(long result, unsigned char *left, long which)
{
    const volatile struct vdso_page *page = &vdso_clock_page;
    const volatile struct stamps *stamps = (const volatile struct stamps *)(uintptr_t)vdso_process_page.stamps;
    const struct record *how = &records[which];
    struct stamp found[MOST_STAMPS];
    int is_left = !stamps; /* in a private copy of the page */
    uint32_t seq;
    if (result)
        return;
    do {
        while ((seq = load_acquire(&page->seq)) & 1)
            cpu_relax();
        for (int i = 0; i < MOST_STAMPS && !is_left; i++) {
            found[i] = read_record(how, left + how->places[i]);
            int64_t late_ns = stamp_ns_of(found[i].sec, found[i].nsec) - stamps->limit_ns;
            is_left = late_ns > 0 && late_ns < FORESEEN_NS; /* or the call has taken long */
            find_stamp(stamps, stamps->limit_ns, how->nanosecond_size ? 1 : SECOND_NS, &found[i].sec, &found[i].nsec);
        }
        read_barrier();
    } while (page->seq != seq);
    if (is_left) {
        syscall4(NR_pread64, STAMPS_LEFT, (long)left, how->nr, 0);
        return;
    }
    for (int i = 0; i < MOST_STAMPS; i++)
        write_record(how, left + how->places[i], &found[i]);
}

#endif

#ifdef HAVE_OPEN_RETURNS

static int is_same(const char *name, const char *other)
{
    while (*name && *name == *other)
        name++, other++;
    return *name == *other;
}

/* At the return of a call that opens a file: whether it may tell the machine's time, by its name or as another name leads to it.
 * That asks no file system that may be slow or another program's. */
__attribute__((visibility("hidden"))) void tell_opened(long fd, const char *path, int directory)
{
    const char *name = path;
    char first;
    if (fd < 0)
        return;
    for (const char *at = path; *at; at++)
        if (*at == '/')
            name = at + 1;
    if (is_same(name, "stat") || is_same(name, "uptime") || is_same(name, "utmp")
        || syscall4(NR_readlinkat, directory, (long)path, (long)&first, 1) > 0)
        syscall4(NR_pread64, OPENED_FILE, fd, 0, 0);
}

#endif
