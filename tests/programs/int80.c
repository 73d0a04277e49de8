// run: machine=x86_64 start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
// run: machine=x86_64 start=1969-12-31T23:59:58.999999999Z bare=fails
// run: machine=x86_64 start=2038-01-19T03:14:08.123456789Z bare=fails
// run: machine=x86_64 start=2106-02-07T06:28:17Z bare=fails
/* 32-bit system calls, which a 64-bit program can make too (int 0x80; CONFIG_IA32_EMULATION): their
 * numbers, structures and errors, as arch/x86/entry/syscalls/syscall_32.tbl has them. Those with a
 * 32-bit time cut it off (put_old_timespec32, kernel/time/time.c). Where the kernel has no such
 * calls, int 0x80 is SIGSEGV. */
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

enum { TIME = 13, GETTIMEOFDAY = 78, CLOCK_GETTIME = 265, CLOCK_GETTIME64 = 403 };

/* Where results go, below 4 GiB, with what must stay untouched behind each. */
struct results {
    union {
        int32_t narrow[4];
        int64_t wide[4];
    };
    int32_t zone[2];
};

static struct results *results;
static sigjmp_buf no_such_calls;

static void on_fault(int number)
{
    (void)number;
    siglongjmp(no_such_calls, 1);
}

/* The whole of rax. The kernel before 4.4 does not keep r8 to r11. */
static long int80(long number, long first, const void *second)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(first), "c"(second), "d"(0), "S"(0), "D"(0)
                     : "r8", "r9", "r10", "r11", "memory");
    return result;
}

static void clear(void)
{
    memset(results, 0xee, sizeof *results);
}

static void check_untouched_from(unsigned offset)
{
    for (unsigned i = offset; i < sizeof *results; i++)
        CHECK_EQUAL(((unsigned char *)results)[i], 0xee);
}

static void check_values(int64_t seconds, long nanoseconds)
{
    struct timezone zone;

    clear();
    CHECK_EQUAL(int80(CLOCK_GETTIME, CLOCK_REALTIME, results), 0);
    CHECK_EQUAL(results->narrow[0], (int32_t)seconds);
    CHECK_EQUAL(results->narrow[1], nanoseconds);
    check_untouched_from(2 * sizeof(int32_t));

    clear();
    CHECK_EQUAL(int80(CLOCK_GETTIME64, CLOCK_REALTIME, results), 0);
    CHECK_EQUAL(results->wide[0], seconds);
    CHECK_EQUAL(results->wide[1], nanoseconds);
    check_untouched_from(2 * sizeof(int64_t));

    /* Its result is an int, with the sign that it has as one. */
    clear();
    CHECK_EQUAL(int80(TIME, (long)results, NULL), (int32_t)seconds);
    CHECK_EQUAL(results->narrow[0], (int32_t)seconds);
    check_untouched_from(sizeof(int32_t));
    CHECK_EQUAL(int80(TIME, 0, NULL), (int32_t)seconds);

    clear();
    CHECK_EQUAL(int80(GETTIMEOFDAY, (long)results, NULL), 0);
    CHECK_EQUAL(results->narrow[0], (int32_t)seconds);
    CHECK_EQUAL(results->narrow[1], nanoseconds / 1000);
    check_untouched_from(2 * sizeof(int32_t));
    CHECK(syscall(SYS_gettimeofday, NULL, &zone) == 0);
    CHECK_EQUAL(int80(GETTIMEOFDAY, 0, results->zone), 0);
    CHECK_EQUAL(results->zone[0], zone.tz_minuteswest);
    CHECK_EQUAL(results->zone[1], zone.tz_dsttime);
    CHECK_EQUAL(int80(GETTIMEOFDAY, 0, NULL), 0);
}

static void check_monotonic(void)
{
    int64_t before = clock_ns(CLOCK_MONOTONIC);
    CHECK_EQUAL(int80(CLOCK_GETTIME, CLOCK_MONOTONIC, results), 0);
    int64_t narrow = results->narrow[0] * NSEC_PER_SEC + results->narrow[1];
    CHECK_EQUAL(int80(CLOCK_GETTIME64, CLOCK_MONOTONIC, results), 0);
    int64_t wide = results->wide[0] * NSEC_PER_SEC + results->wide[1];
    CHECK(before <= narrow && narrow <= wide && wide <= clock_ns(CLOCK_MONOTONIC));
}

static void check_refusals(void)
{
    static const int calls[] = {CLOCK_GETTIME, CLOCK_GETTIME64};
    void *nowhere = (void *)8;

    clear();
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQUAL(int80(calls[i], 1000, results), -EINVAL);
        CHECK_EQUAL(int80(calls[i], -1, results), -EINVAL);
        CHECK_EQUAL(int80(calls[i], CLOCK_REALTIME, NULL), -EFAULT);
        CHECK_EQUAL(int80(calls[i], CLOCK_REALTIME, nowhere), -EFAULT);
    }
    CHECK_EQUAL(int80(TIME, (long)nowhere, NULL), -EFAULT);
    CHECK_EQUAL(int80(GETTIMEOFDAY, (long)nowhere, NULL), -EFAULT);
    CHECK_EQUAL(int80(GETTIMEOFDAY, 0, nowhere), -EFAULT);
    check_untouched_from(0);
    /* CPU time is the kernel's to tell. */
    CHECK_EQUAL(int80(CLOCK_GETTIME, CLOCK_PROCESS_CPUTIME_ID, results), 0);
    CHECK(results->narrow[0] >= 0 && results->narrow[0] < 60);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    int64_t expected_ns = start_ns(argv);
    int64_t seconds = expected_ns / NSEC_PER_SEC - (expected_ns % NSEC_PER_SEC < 0);

    results = mmap(NULL, sizeof *results, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(results != MAP_FAILED);
    signal(SIGSEGV, on_fault);
    if (sigsetjmp(no_such_calls, 1) == 0) {
        check_values(seconds, expected_ns - seconds * NSEC_PER_SEC);
        check_monotonic();
        check_refusals();
    }
    check_wall(expected_ns);
    return success();
}
