/* Each pointer that a system call takes, tried with all that a pointer may be: memory that is there, that
 * is not, that is in part, that may be read only. The programs bad_pointers_*.c go through all calls that a
 * clock has a say in; what is expected is what the kernel does without one. */
#ifndef POINTERS_H
#define POINTERS_H

#include "check.h"
#include <limits.h>
#include <sys/mman.h>
#include <asm/unistd.h> /* by the kernel's own names, which musl changes on i386 */

/* Rows give the usual values first, their own behind. */
#pragma clang diagnostic ignored "-Winitializer-overrides"

#ifdef __NR__newselect /* the older of two has its arguments in memory */
enum { OLD_SELECT = __NR_select };
#define __NR_old_select OLD_SELECT
#undef __NR_select
#define __NR_select __NR__newselect
#endif

enum place {
    NOWHERE, /* NULL */
    /* Nobody can use these. */
    ONE,
    UNMAPPED,
    GUARDED, /* PROT_NONE */
    KERNEL,
    HIGHEST,
    VSYSCALL, /* where x86 has a page that is read by no system call */
    NON_CANONICAL,
    BEYOND_FILE, /* SIGBUS for a program that looks there */
    SHORT,       /* all but the last byte are there */
    HALF,
    /* They can be read. */
    READ_ONLY,
    HALF_READ_ONLY, /* the first half can be written too */
    READ_ONLY_AGAIN, /* has been written, so that it is the process's own page */
    /* They can be used. */
    WITHIN,
    LAST, /* it ends where the memory does */
    ACROSS, /* two pages */
    FRESH, /* never touched */
    GROWING, /* below a stack, which has yet to grow to there (mmap(2), MAP_GROWSDOWN) */
    PLACES
};

static const char *const place_names[] = {
    "NULL", "1", "unmapped memory", "PROT_NONE", "the kernel's last page", "the highest address", "the vsyscall page",
    "a non-canonical address", "behind the end of a file", "memory that is a byte short", "memory that is half there",
    "read-only memory", "memory that is half read-only", "read-only memory that was written", "good memory",
    "the end of memory", "memory in two pages", "fresh memory", "memory below a stack"};

#define IS_BEYOND(place) ((place) >= KERNEL && (place) <= NON_CANONICAL) /* what programs can have */
#define IS_USABLE(place) ((place) >= WITHIN)
#define IS_READABLE(place) ((place) >= READ_ONLY)
#define UNTOUCHED_BYTE 0xee

enum access { READS, WRITES, READS_AND_WRITES };
enum { ANY = INT_MIN, ANY_HANDLE = INT_MIN + 1 }; /* a result that is no error, and one to close */

/* A call, one of whose arguments is a pointer. */
struct trial {
    const char *name;
    long number, args[6];
    const char *state; /* of its object */
    const int *first;  /* what the first argument is when it is made */
    int at;            /* the argument that is tried */
    enum access access;
    size_t size;
    const void *data;  /* what is to be read */
    long good, null, read_only, fault;
    int is_aligned;    /* it takes none that is not */
    void (*before)(void);
    void (*after)(enum place place, long result, const void *memory);
};

/* The call by its name, which the kernel's number has too. */
#define CALL(name_) .name = #name_, .number = __NR_##name_, .null = -EFAULT, .fault = -EFAULT, .read_only = -EFAULT

#define PAGE 4096
#define STACK_GAP (2 << 20) /* more than a stack keeps from what is below (Documentation/admin-guide/kernel-parameters.txt) */

static struct {
    char *unmapped, *guarded, *beyond_file, *lone, *writable_before_read_only, *read_only, *written, *two, *fresh, *below;
} memory;
static int failures, trials;

/* Where nobody else maps anything, who takes the highest addresses that are free. */
#define LOW ((char *)0x20000000)

static inline char *map(char *start, size_t size, int protection, int flags)
{
    CHECK(mmap(start, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0) == start);
    return start;
}

static inline void map_memory(void)
{
    int fd = memfd_create("short", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
    memory.beyond_file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory.beyond_file != MAP_FAILED && close(fd) == 0);
    memory.beyond_file += PAGE;
    char *pages = map(LOW + 2 * STACK_GAP, 12 * PAGE, PROT_READ | PROT_WRITE, 0);
    memory.guarded = pages;
    memory.lone = pages + PAGE;
    memory.unmapped = pages + 2 * PAGE;
    memory.writable_before_read_only = pages + 3 * PAGE;
    memory.read_only = pages + 4 * PAGE;
    memory.written = pages + 6 * PAGE;
    memory.two = pages + 8 * PAGE;
    memory.fresh = pages + 11 * PAGE;
    memset(memory.written, 0, PAGE);
    CHECK(mprotect(memory.guarded, PAGE, PROT_NONE) == 0 && mprotect(pages + 10 * PAGE, PAGE, PROT_NONE) == 0);
    CHECK(munmap(memory.unmapped, PAGE) == 0);
    memory.below = map(LOW, STACK_GAP + PAGE, PROT_NONE, MAP_NORESERVE) + STACK_GAP;
}

/* The memory at a place, which holds what it is to hold. */
static inline char *prepare(enum place place, const struct trial *trial)
{
    char *at = NULL;
    unsigned char presence;
    switch (place) {
    case NOWHERE: return NULL;
    case ONE: return (char *)1;
    case UNMAPPED:
        CHECK(mincore(memory.unmapped, PAGE, &presence) == -1 && errno == ENOMEM);
        return memory.unmapped + 64;
    case GUARDED: return memory.guarded + 64;
    case KERNEL: return (char *)-PAGE;
    case HIGHEST: return (char *)-1;
    case VSYSCALL: return (char *)-0xa00000;
    case NON_CANONICAL: return (char *)((uintptr_t)1 << (8 * sizeof(long) - 1) | 64);
    case BEYOND_FILE: return memory.beyond_file + 64;
    case SHORT: at = memory.unmapped - trial->size + 1; break;
    case HALF: at = memory.unmapped - trial->size / 2; break;
    case READ_ONLY: at = memory.read_only + 64; break;
    case HALF_READ_ONLY: at = memory.read_only - trial->size / 2; break;
    case READ_ONLY_AGAIN: at = memory.written + 64; break;
    case WITHIN: at = memory.two + 64; break;
    case LAST: at = memory.unmapped - trial->size; break;
    case ACROSS: at = memory.two + PAGE - trial->size / 2; break;
    case FRESH:
        CHECK(mmap(memory.fresh, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
              == memory.fresh);
        return memory.fresh + 64;
    case GROWING:
        CHECK(munmap(memory.below - STACK_GAP + PAGE, STACK_GAP) == 0);
        CHECK(mmap(memory.below, PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0) == memory.below);
        return memory.below - 3 * PAGE + 64;
    default: CHECK(!"a place");
    }
    int is_protected = place == READ_ONLY || place == HALF_READ_ONLY || place == READ_ONLY_AGAIN;
    if (is_protected)
        CHECK(mprotect(memory.read_only, 3 * PAGE, PROT_READ | PROT_WRITE) == 0);
    memset(memory.lone, UNTOUCHED_BYTE, PAGE);
    memset(memory.two, UNTOUCHED_BYTE, 2 * PAGE);
    memset(memory.writable_before_read_only, UNTOUCHED_BYTE, PAGE);
    size_t there = at < memory.unmapped && at >= memory.lone ? (size_t)(memory.unmapped - at) : trial->size;
    if (trial->data)
        memcpy(at, trial->data, there < trial->size ? there : trial->size);
    if (is_protected)
        CHECK(mprotect(memory.read_only, 3 * PAGE, PROT_READ) == 0);
    return at;
}

static inline void failed(const struct trial *trial, enum place place, const char *what, long actual, long expected)
{
    dprintf(2, "%s%s%s, argument %d in %s: %s is %ld, not %ld\n", trial->name, trial->state ? " of " : "",
            trial->state ? trial->state : "", trial->at, place_names[place], what, actual, expected);
    failures++;
}

static inline int is_untouched(const char *from, const char *to)
{
    for (; from < to; from++)
        if (*(const unsigned char *)from != UNTOUCHED_BYTE)
            return 0;
    return 1;
}

static inline long expected_result(const struct trial *trial, enum place place)
{
    if (place == NOWHERE)
        return trial->null;
    if (IS_USABLE(place) || (IS_READABLE(place) && trial->access == READS))
        return trial->good;
    return IS_READABLE(place) ? trial->read_only : trial->fault;
}

static inline long call_trial(const struct trial *trial, const long *args)
{
    long result = syscall(trial->number, args[0], args[1], args[2], args[3], args[4], args[5]);
    return result == -1 ? -errno : result;
}

/* The memory around what it was given is as it was. */
static inline int leaves_alone(const struct trial *trial, enum place place, const char *at)
{
    const char *start = place == LAST || place == SHORT || place == HALF ? memory.lone : memory.two;
    const char *end = start + (start == memory.lone ? PAGE : 2 * PAGE);
    if (place < SHORT || place == FRESH || place == GROWING || (place >= READ_ONLY && place <= READ_ONLY_AGAIN))
        return 1;
    return is_untouched(start, at) && (at + trial->size >= end || is_untouched(at + trial->size, end));
}

static inline void try_place(const struct trial *trial, enum place place)
{
    long args[6];
    char *at = prepare(place, trial);
    if (trial->data && (place == FRESH || place == GROWING))
        return;
    memcpy(args, trial->args, sizeof args);
    args[trial->at] = (long)at;
    if (trial->before)
        trial->before();
    if (trial->first)
        args[0] = *trial->first;
    long result = call_trial(trial, args), expected = expected_result(trial, place);
    trials++;
    if (expected == ANY || expected == ANY_HANDLE ? result < 0 && result > -4096 : result != expected)
        failed(trial, place, "the result", result, expected);
    if (expected == ANY_HANDLE && result >= 0)
        close(result);
    if (!leaves_alone(trial, place, at))
        failed(trial, place, "the memory around", 1, 0);
    if (trial->access == READS && trial->data && IS_READABLE(place) && memcmp(at, trial->data, trial->size) != 0)
        failed(trial, place, "a change of what is only read", 1, 0);
    if (trial->after)
        trial->after(place, result, at);
}

/* The call with each of those that programs of this kind can have, or with each but those that none has. */
static inline void try_among(const struct trial *trial, int has_beyond)
{
    for (enum place place = NOWHERE; place < PLACES; place++) {
        if (IS_BEYOND(place) && !has_beyond)
            continue;
        if (trial->is_aligned && (place == ONE || place == HIGHEST || place == SHORT || place == HALF ||
                                  place == HALF_READ_ONLY || place == ACROSS))
            continue;
#if UINTPTR_MAX == UINT32_MAX
        if (place == NON_CANONICAL || place == VSYSCALL)
            continue; /* they may be anything */
#endif
        try_place(trial, place);
    }
}

static inline void try_everywhere(const struct trial *trial)
{
    try_among(trial, 1);
}

#define TRY(...)                                                                                   \
    do {                                                                                           \
        const struct trial trial_ = {__VA_ARGS__};                                                 \
        try_everywhere(&trial_);                                                                   \
    } while (0)

static inline int all_were_right(void)
{
    CHECK(trials > 0);
    CHECK_EQUAL(failures, 0);
    return success();
}

#endif
