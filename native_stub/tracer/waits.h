/* Timed waits that begin without a word to the tracer: one record per task, of its last. */
#ifndef VDSOTIME_WAITS_H
#define VDSOTIME_WAITS_H

#include <stdint.h>

/* Who sees to the end of a wait. */
enum wait_keeper {
    KEPT_BY_KERNEL, /* which times it as the program has written it */
    KEPT_ENDLESS,   /* the kernel has another timeout or none: the task stops at the exit of its call */
    KEPT_AT_ENTRY,  /* the task is stopped there */
};

/* What ends a wait, beside what it waits for: a point of */
enum wait_line { MONOTONIC_LINE, WALL_LINE, EITHER_LINE };

struct wait_record {
    uint64_t tid; /* 0: none */
    uint64_t nr, arguments[6], stack, counter;
    uint64_t is_absolute;   /* its timeout is a point of a clock */
    uint64_t began_ns;   /* by the host's CLOCK_MONOTONIC, */
    int64_t ahead_ns;    /* of which that line was ahead by this: so much before `due_ns` the kernel ends it */
    uint64_t timeout[2]; /* what its pointer led to */
    uint64_t has_rest;   /* a signal leaves in memory what is left of it, */
    uint64_t rest[2];    /* in place of this */
    uint64_t clock;      /* the id of the clock that it is told by, */
    uint64_t line;       /* and the line (enum wait_line) */
    int64_t due_ns;      /* what the monotonic line will read at its deadline, if both lines go equally far */
    uint64_t length_ns;  /* what was left of it when it began */
    uint64_t keeper;     /* enum wait_keeper */
    uint64_t is_expiring; /* its time is up: at the next stop of its task it ends so */
    uint64_t is_carried;  /* its task waits for what was left of the wait before */
};

/* By number, for system calls of the tracer's own kind. */
enum wait_kind {
    WAIT_ARGUMENT = 7,       /* which one is the timeout, */
    WAIT_KNOWN = 1 << 3,     /* if the call is a timed wait, */
    WAIT_BY_VALUE = 1 << 4,  /* in milliseconds, and not a pointer to it, */
    WAIT_TIMEVAL = 1 << 5,   /* in seconds and microseconds */
    WAIT_SLEEP = 1 << 6,     /* it waits for nothing else */
    WAIT_WRITES_BACK = 1 << 7, /* what is left is left where the timeout stood */
    WAIT_FD_SETS = 1 << 8,   /* arguments 1 to 3 are sets of descriptors, which are cleared when the time is up */
};
#define WAIT_NUMBERS 512

struct wait_table {
    uint64_t mask;  /* of an index into records, whose number is a power of two */
    uint64_t count;
    uint64_t records;
    uint64_t begins; /* waits may begin so */
    int64_t ahead_ns; 
    uint64_t clocks; /* bit per clock id on a line */
    uint16_t kinds[WAIT_NUMBERS];
    int16_t expired[WAIT_NUMBERS]; /* the result when the time is up */
};

struct syscall_info;
int takes_unblocked(uint64_t tid, const struct syscall_info *info);
unsigned reads_wait(const struct wait_table *table, uint64_t tid, const struct syscall_info *info,
                    struct wait_record *wait, uint64_t *timeout_ns);
int begins_wait(struct wait_table *table, uint64_t tid, const struct syscall_info *info);
struct wait_record *find_record(const struct wait_table *table, uint64_t tid);
void put_record(struct wait_table *table, const struct wait_record *record);
void drop_record(struct wait_table *table, uint64_t tid);

#endif
