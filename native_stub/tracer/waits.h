/* Timed waits that begin without a word to the tracer, as long as they last what they say: one record per task, of
 * its last. */
#ifndef VDSOTIME_WAITS_H
#define VDSOTIME_WAITS_H

#include <stdint.h>

struct wait_record {
    uint64_t tid; /* 0: none */
    uint64_t nr, arguments[6], stack, counter;
    uint64_t is_absolute;   /* its timeout is a point of CLOCK_MONOTONIC */
    uint64_t began_ns;   /* by the host's CLOCK_MONOTONIC, */
    int64_t ahead_ns;    /* of which the monotonic line was ahead by this */
    uint64_t timeout[2]; /* what its pointer led to */
    uint64_t has_rest;   /* a signal leaves in memory what is left of it, */
    uint64_t rest[2];    /* in place of this */
};

/* By number, for system calls of the tracer's own kind. */
enum wait_kind { NO_WAIT, WAIT_BY_VALUE, WAIT_BY_POINTER /* and so on: of which argument */ };
#define WAIT_NUMBERS 512

struct wait_table {
    uint64_t mask;  /* of an index into records, whose number is a power of two */
    uint64_t count;
    uint64_t records;
    uint64_t begins; /* waits may begin so */
    int64_t ahead_ns; 
    uint64_t clocks; /* bit per clock id on a line */
    uint8_t kinds[WAIT_NUMBERS];
};

struct syscall_info;
int takes_unblocked(uint64_t tid, const struct syscall_info *info);
int begins_wait(struct wait_table *table, uint64_t tid, const struct syscall_info *info);
struct wait_record *find_record(const struct wait_table *table, uint64_t tid);
void drop_record(struct wait_table *table, uint64_t tid);

#endif
