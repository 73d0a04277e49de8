/* What every test program uses. The driver (tests/test_programs.py) starts each with
 *
 *   PROGRAM START_NS MOVED_NS
 *
 * : the wall clock's reading, in nanoseconds since the epoch, when the program starts and after the
 * driver has moved it (see moved()). A program checks itself and ends by printing EXIT-SUCCESS. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000LL

/* musl's time_t has 64 bits on i386 too, where its raw calls are those made for it. It has no other
 * gettimeofday than the one with 32. */
#if defined __i386__ && defined SYS_clock_gettime32
#define SYS_clock_gettime SYS_clock_gettime64
#define SYS_clock_settime SYS_clock_settime64
#define SYS_clock_getres SYS_clock_getres_time64
#define SYS_clock_nanosleep SYS_clock_nanosleep_time64
#undef SYS_futex
#define SYS_futex SYS_futex_time64
#endif

/* Ends the process at once, whichever thread finds out. */
#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            dprintf(2, "%s:%d: not %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, errno,   \
                    strerror(errno));                                                             \
            _exit(1);                                                                             \
        }                                                                                         \
    } while (0)

/* As CHECK, for numbers: says both. */
#define CHECK_EQUAL(actual, expected)                                                             \
    do {                                                                                          \
        long long actual_ = (actual), expected_ = (expected);                                     \
        if (actual_ != expected_) {                                                               \
            dprintf(2, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #actual, actual_,     \
                    expected_);                                                                   \
            _exit(1);                                                                             \
        }                                                                                         \
    } while (0)

/* The wall clock by a system call; on 64-bit Arm time(2) is none. */
static inline long raw_time(void)
{
#ifdef SYS_time
    return syscall(SYS_time, NULL);
#else
    struct timeval now;
    CHECK(syscall(SYS_gettimeofday, &now, NULL) == 0);
    return now.tv_sec;
#endif
}

static inline int64_t in_ns(struct timespec ts)
{
    return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* What libc says. */
static inline int64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    CHECK(clock_gettime(id, &ts) == 0);
    CHECK(ts.tv_nsec >= 0 && ts.tv_nsec < NSEC_PER_SEC);
    return in_ns(ts);
}

/* The wall clock reads `expected_ns`, by each way a libc has to read it. */
static inline void check_wall(int64_t expected_ns)
{
    struct timeval tv;
    int64_t sec = expected_ns / NSEC_PER_SEC - (expected_ns % NSEC_PER_SEC < 0);
    CHECK_EQUAL(clock_ns(CLOCK_REALTIME), expected_ns);
    CHECK_EQUAL(time(NULL), sec);
    CHECK(gettimeofday(&tv, NULL) == 0);
    CHECK_EQUAL(tv.tv_sec, sec);
    CHECK_EQUAL(tv.tv_usec, (expected_ns - sec * NSEC_PER_SEC) / 1000);
}

static inline int64_t start_ns(char **argv)
{
    CHECK(argv[1] && argv[2]);
    return strtoll(argv[1], NULL, 10);
}

/* Has the driver move the clock, and checks that the move is seen. */
static inline void check_move(char **argv)
{
    char line[2];
    CHECK(write(1, "MOVE\n", 5) == 5);
    CHECK(read(0, line, 1) == 1);
    check_wall(strtoll(argv[2], NULL, 10));
}

/* This program, whatever directory it may reach. */
#define SELF "/proc/self/exe"

/* Replaces the process by this program in another `role`, which it finds in argv[3]. */
static inline void exec_role(char **argv, char *role)
{
    char *arguments[] = {argv[0], argv[1], argv[2], role, NULL};
    execv(SELF, arguments);
    CHECK(!"exec");
}

static inline int has_role(char **argv, const char *role)
{
    return argv[3] && strcmp(argv[3], role) == 0;
}

/* Waits for `pid` and checks that it ended well. */
static inline void check_child(pid_t pid)
{
    int status;
    CHECK(pid > 0);
    CHECK_EQUAL(waitpid(pid, &status, __WALL), pid);
    CHECK_EQUAL(status, 0);
}

static inline int success(void)
{
    CHECK(write(1, "EXIT-SUCCESS\n", 13) == 13);
    return 0;
}

#endif
