/* The engine: time passes from deadline to deadline without a word to Python, until something needs it. */
#ifndef VDSOTIME_ENGINE_H
#define VDSOTIME_ENGINE_H

#include "program/page.h"
#include "sample.h"
#include "stamps.h"
#include "waits.h"

#define ENGINE_EVENTS 1024

#define CARRY_NS 1000000       /* a program that waits for what is left of a wait, which is less than this, is carried on */
#define GRAIN_NS 1000000       /* of the wall line, where that is rounded */
#define LONG_STEP_NS 20000000  /* before a step this long, data on its way through the kernel is waited for */
#define MAX_LOOKS 20000        /* deadlines of one instant are settled one by one, unless so many looks at tasks that takes */
#define RENEWED_NS 1000000000  /* the kernel does not end a wait within this while the lines stand */

/* More than CROWD waits that are no longer than MOMENT_NS end together where a machine could not end them apart, which takes
 * WAKE_NS for each. */
#define CROWD 16
#define MOMENT_NS 1000000
#define WAKE_NS 10000

/* Why it has ended; or a negative errno. */
enum engine_result {
    ENGINE_STOP,   /* a stop is Python's to handle, or there is news, or it is time that Python looks for some */
    ENGINE_DONE,   /* nothing is due any more, as far as the lines may go */
    ENGINE_BUSY,   /* some task has been for a while */
    ENGINE_PYTHON, /* the next step is Python's */
    ENGINE_NETWORK, /* before it Python is to find out whether data is on its way */
};

/* A timerfd that is armed, by a copy of its descriptor in this process. */
struct engine_timer {
    uint64_t copy, tid, fd; /* one of the descriptors that it is a copy of, and whose */
    uint64_t is_native;     /* else its expiration is Python's */
    int64_t due_ns;         /* as in struct wait_record; negative: it is disarmed */
    uint64_t interval_ns, set_ns, expirations;
};

/* A private copy of the page in a program. */
struct engine_copy {
    int64_t memory; /* a descriptor of its /proc/PID/mem */
    uint64_t address; /* there */
    struct vdso_page page; /* what stands there */
};

/* What has come to its deadline. */
struct engine_event {
    uint64_t at_ns; /* by the host's CLOCK_MONOTONIC, */
    uint64_t passed_ns; /* and how far the lines had gone */
    uint64_t tid;   /* 0: a timer, and */
    uint64_t what;  /* which one; else the number of the system call, */
    uint64_t clock; /* its clock */
    int64_t due_ns; /* and its deadline, as in struct wait_record */
};

struct engine {
    /* Told by Python. */
    uint64_t page;       /* the clock's, in this process (page.h) */
    uint64_t stamps;     /* its struct stamps, or 0 */
    int64_t monotonic_ns; /* what its monotonic line reads; both lines stand still */
    uint64_t ends_early; /* a wait until a point of the wall line ends by the monotonic one as well */
    uint64_t most_ns;    /* how far the lines may go */
    uint64_t slack_ns;   /* how much later than its deadline what is due finds the time, */
    uint64_t rounds_ns;  /* how much further than to a deadline they may for the wall line to read a whole millisecond */
    uint64_t has_streams; /* programs have sockets that may hold data back, */
    uint64_t network_ns;  /* and when that is to be found out next */
    uint64_t stopped_count;
    uint64_t stopped;    /* addresses of the struct sample of tasks that a signal has stopped, */
    uint64_t samples;    /* and of all others, */
    uint64_t count;      /* and how many there are, */
    uint64_t changed;    /* and where there is room for as many numbers */
    uint64_t timers, timer_count;
    uint64_t copies, copy_count; /* of struct engine_copy */
    /* Told by the engine. */
    uint64_t passed_ns; /* how far the lines have gone */
    uint64_t has_stale_copies; /* a private copy could not be written */
    int64_t result;         /* why it has ended (enum engine_result, or a negative errno) */
    uint64_t changed_count; /* the numbers of how many tasks stand in `changed`: they are no longer as they were, or Python's again */
    uint64_t event_count; /* of which the last ones are known */
    struct engine_event events[ENGINE_EVENTS];
};

struct fastpath;
struct syscall_info;
int keeps_wait(struct fastpath *fastpath, uint64_t tid, const struct syscall_info *info);
int lets_kept_end(const struct wait_table *table, uint64_t tid, struct wait_record *wait);
int is_nothing_there(const struct sample *sample, const struct wait_record *wait); /* ready.c */

#endif
