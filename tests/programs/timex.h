/* adjtimex(2) and clock_adjtime(2), by each system call that takes a struct timex. */
#ifndef TIMEX_H
#define TIMEX_H

#ifdef __i386__
#include "i386.h"
#else
#include "check.h"
#endif
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/timex.h>

enum { /* the fields of struct timex, of which `time` is a pair */
    MODES, OFFSET, FREQ, MAXERROR, ESTERROR, STATUS, CONSTANT, PRECISION, TOLERANCE, SECONDS, FRACTION,
    TICK, PPSFREQ, JITTER, SHIFT, STABIL, JITCNT, CALCNT, ERRCNT, STBCNT, TAI, FIELDS
};
enum { SINGLE = 0x8000, READ_ONLY = 0x2000, PHASE_LIMIT = 16000000, MAX_FREQ = 32768000 };

struct call {
    long number;
    int width; /* of a field, in bytes */
    int has_id;
    int by_int80;
};

static struct call call;
static int64_t field[FIELDS];
static unsigned char *page; /* below 4 GiB, and the next one cannot be used */
static long page_size;
static sigjmp_buf no_such_calls;

static int size_of_all(void)
{
    return call.width == 4 ? 128 : 208;
}

static int is_int(int one)
{
    return one == MODES || one == STATUS || one == SHIFT || one == TAI;
}

/* Returns the state or a negative errno. */
static long make_call(long id, const void *timex)
{
    long first = call.has_id ? id : (long)timex, second = call.has_id ? (long)timex : 0;
#ifdef __i386__
    return RAW(call.number, first, second);
#else
#ifdef __x86_64__
    if (call.by_int80) {
        long result;
        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(call.number), "b"(first), "c"(second), "d"(0), "S"(0), "D"(0)
                         : "r8", "r9", "r10", "r11", "memory");
        return (int)result;
    }
#endif
    long result = syscall(call.number, first, second);
    return result < 0 ? -errno : result;
#endif
}

/* What stands in `field`, at the end of the page. */
static unsigned char *put(void)
{
    unsigned char *timex = page + page_size - size_of_all();
    memset(page, 0xa5, page_size);
    for (int i = 0; i < FIELDS; i++)
        memcpy(timex + i * call.width, &field[i], is_int(i) ? 4 : call.width);
    return timex;
}

/* Padding is kept between and behind wide fields, and cleared behind narrow ones. */
static void take(const unsigned char *timex)
{
    int end = 0;
    for (int i = 0; i < FIELDS; i++) {
        int width = is_int(i) ? 4 : call.width;
        int32_t narrow;
        for (; end < i * call.width; end++)
            CHECK_EQUAL(timex[end], 0xa5);
        memcpy(&narrow, timex + end, 4);
        field[i] = narrow;
        if (width == 8)
            memcpy(&field[i], timex + end, 8);
        end += width;
    }
    for (; end < size_of_all(); end++)
        CHECK_EQUAL(timex[end], call.width == 4 ? 0 : 0xa5);
    CHECK_EQUAL(timex[-1], 0xa5);
}

/* With what stands in `field`, where what is told comes. */
static long adjust(unsigned modes)
{
    field[MODES] = modes;
    unsigned char *timex = put();
    long result = make_call(CLOCK_REALTIME, timex);
    if (result >= 0) {
        take(timex);
        CHECK_EQUAL((unsigned)field[MODES], modes);
    }
    return result;
}

static long look(void)
{
    memset(field, 0, sizeof field);
    return adjust(0);
}

static long set(unsigned modes, int one, int64_t given)
{
    memset(field, 0, sizeof field);
    field[one] = given;
    return adjust(modes);
}

static int64_t tai_ahead_s(void)
{
    struct timespec tai, real;
    CHECK(syscall(SYS_clock_gettime, CLOCK_TAI, &tai) == 0);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &real) == 0);
    int64_t raw_s = (in_ns(tai) - in_ns(real) + NSEC_PER_SEC / 2) / NSEC_PER_SEC;
    int64_t mapped_ns = clock_ns(CLOCK_TAI) - clock_ns(CLOCK_REALTIME);
    CHECK_EQUAL((mapped_ns + NSEC_PER_SEC / 2) / NSEC_PER_SEC, raw_s);
    return raw_s;
}

static void check_time(void)
{
    int64_t before_ns = clock_ns(CLOCK_REALTIME);
    CHECK(look() >= 0);
    int64_t unit_ns = field[STATUS] & STA_NANO ? 1 : 1000;
    int64_t told_ns = field[SECONDS] * NSEC_PER_SEC + field[FRACTION] * unit_ns;
    CHECK(field[FRACTION] >= 0 && field[FRACTION] < NSEC_PER_SEC / unit_ns);
    CHECK(told_ns >= before_ns / unit_ns * unit_ns && told_ns <= clock_ns(CLOCK_REALTIME));
}

static inline void on_fault(int number)
{
    (void)number;
    siglongjmp(no_such_calls, 1);
}

/* All such calls, up to one without a number: none by int 0x80 where the kernel has none of these
 * (CONFIG_IA32_EMULATION). */
static const struct call *timex_calls(int by_int80)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef __x86_64__
    flags |= MAP_32BIT;
#endif
    page_size = sysconf(_SC_PAGESIZE);
    page = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, flags, -1, 0);
    CHECK(page != MAP_FAILED && munmap(page + page_size, page_size) == 0);
#ifdef __i386__
    static const struct call calls[] = {
        {ADJTIMEX, 4, 0, 0}, {CLOCK_ADJTIME, 4, 1, 0}, {CLOCK_ADJTIME64, 8, 1, 0}, {0, 0, 0, 0}
    };
    way = kernel_vsyscall();
#else
    static const struct call calls[] = {
        {SYS_adjtimex, 8, 0, 0}, {SYS_clock_adjtime, 8, 1, 0}, {0, 0, 0, 0}
    };
    static const struct call narrow_calls[] = {
        {124, 4, 0, 1}, {343, 4, 1, 1}, {405, 8, 1, 1}, {0, 0, 0, 0}
    };
    if (by_int80) {
        if (sigsetjmp(no_such_calls, 1))
            return &calls[2];
        CHECK(signal(SIGSEGV, on_fault) != SIG_ERR);
        call = narrow_calls[0];
        CHECK(look() >= 0);
        CHECK(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
        return narrow_calls;
    }
#endif
    (void)by_int80;
    return calls;
}

#endif
