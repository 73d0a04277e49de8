/* Waits that last hours. A program is told by its first further argument how time goes by where it
 * runs, and so how long its waits shall be:
 *
 *   bare      as it does: short ones
 *   frozen    only when the driver is asked for it, to the nanosecond
 *   flowing   when the driver is asked for it, and a little by itself
 *   fast      by itself, some thousand times as fast
 *   jumping   by itself, from deadline to deadline, and with what keeps a program busy for long
 */
#ifndef ELAPSE_H
#define ELAPSE_H

#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

enum course { BARE, FROZEN, FLOWING, FAST, JUMPING };

static enum course course;
static int64_t length_ns; /* of a wait */
static int64_t part_ns;   /* of that: well before its end */

/* Takes the length of waits that last as long as they say. */
static inline void read_course(char **argv, int64_t bare_length_ns)
{
    static const char *names[] = {"bare", "frozen", "flowing", "fast", "jumping"};
    CHECK(argv[1] && argv[2] && argv[3]);
    while (strcmp(argv[3], names[course]) != 0)
        CHECK(++course <= JUMPING);
    length_ns = course == BARE   ? bare_length_ns
                : course == FAST ? 72 * NSEC_PER_SEC /* 20 ms of real time */
                                 : 7200 * NSEC_PER_SEC;
    part_ns = course == BARE ? 5000000 : length_ns / 4;
}

/* How long waits are where they last as long as they say. One that something else is to end must be
 * long, however busy the machine is. */
static inline void set_bare_length(int64_t ns)
{
    if (course == BARE)
        length_ns = ns;
}

/* Whether nothing moves but what the driver moves. */
static inline int is_asked(void)
{
    return course == FROZEN || course == FLOWING;
}

/* Whether what expires again and again does so as often as it is said to. */
static inline int is_exact(void)
{
    return course == FROZEN || course == JUMPING;
}

static inline int64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* Real time that passes while programs run is seen in all worlds but the frozen one; in a jumping one
 * no more than what keeps them busy. */
static inline int64_t slack_ns(void)
{
    static const int seconds[] = {[BARE] = 10, [FROZEN] = 0, [FLOWING] = 30, [FAST] = 40000, [JUMPING] = 1};
    return seconds[course] * NSEC_PER_SEC;
}

/* `elapsed_ns` were to be `expected_ns`. A millisecond too little is what a real wall clock that is
 * being adjusted shows of the other. */
#define CHECK_ELAPSED(elapsed_ns, expected_ns) \
    check_elapsed(__FILE__, __LINE__, #elapsed_ns, elapsed_ns, expected_ns)
static inline void check_elapsed(const char *file, int line, const char *what, int64_t elapsed_ns,
                                 int64_t expected_ns)
{
    int64_t least_ns = expected_ns - (course == BARE ? 1000000 : 0);
    int64_t most_ns = expected_ns + slack_ns();
    if (elapsed_ns >= least_ns && elapsed_ns <= most_ns)
        return;
    dprintf(2, "%s:%d: %s is %lld, not %lld\n", file, line, what, (long long)elapsed_ns,
            (long long)expected_ns);
    _exit(1);
}

/* As that, for what is left of a wait of `of_ns`; it may be less, but not more. */
#define CHECK_LEFT(left_ns, of_ns, elapsed_ns) \
    check_elapsed(__FILE__, __LINE__, #left_ns " of " #of_ns, (of_ns) - (left_ns), elapsed_ns)

/* Has the driver do something; an answer means that it is done. */
static inline void ask(const char *what, int64_t seconds)
{
    char line[64], answer;
    int size = snprintf(line, sizeof line, "%s %lld\n", what, (long long)seconds);
    CHECK(write(1, line, size) == size);
    CHECK(read(0, &answer, 1) == 1);
}

/* Waits for `ns`, whatever signals come. */
static inline void sleep_ns(int64_t ns)
{
    struct timespec rest = {ns / NSEC_PER_SEC, ns % NSEC_PER_SEC};
    while (nanosleep(&rest, &rest) == -1)
        CHECK(errno == EINTR);
}

/* Lets time go by. Those who wait for some of it have noticed when this returns, except in the worlds
 * where this is but one of those who wait. */
static inline void elapse(int64_t ns)
{
    if (is_asked()) {
        CHECK(ns % NSEC_PER_SEC == 0);
        ask("ADVANCE", ns / NSEC_PER_SEC);
    } else {
        sleep_ns(ns);
    }
}

/* As that, until all that is due by then has happened in each world. */
static inline void elapse_past(int64_t ns)
{
    elapse(ns + (course == JUMPING ? NSEC_PER_SEC : 0));
}

/* It is not yet time for `flag`. A busy machine may have been late to ask, where time is real. */
#define CHECK_NOT_YET(flag) CHECK(course == BARE || !(flag))

static inline void wait_until_set(const volatile int *flag)
{
    struct timespec pause = {0, 200000};
    for (int i = 0; !*flag; i++) {
        CHECK(i < 25000);
        nanosleep(&pause, NULL);
    }
}

/* Waits until a thread is in state `wanted` of proc(5), in worlds where time goes by meanwhile. In the
 * others it goes on only when all are asleep. */
static inline void wait_for_state(pid_t tid, char wanted)
{
    struct timespec pause = {0, 200000};
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", tid);
    for (int i = 0;; i++) {
        int fd = open(path, O_RDONLY);
        CHECK(fd >= 0 && i < 25000);
        ssize_t size = read(fd, text, sizeof text - 1);
        CHECK(size > 0);
        close(fd);
        text[size] = 0;
        char state = strrchr(text, ')')[2];
        if (state == wanted || state == 'Z') /* what has ended is found out soon */
            return;
        nanosleep(&pause, NULL);
    }
}

static inline struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){ns / NSEC_PER_SEC, ns % NSEC_PER_SEC};
}

/* Memory that forked children share. */
static inline void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

#endif
