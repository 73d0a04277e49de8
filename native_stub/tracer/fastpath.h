/* What the tracer and its fast path tell each other. */
#ifndef VDSOTIME_FASTPATH_H
#define VDSOTIME_FASTPATH_H

#include "engine.h"
#include "stamps.h"
#include "takeover.h"
#include "waits.h"

#define FASTPATH_LIST 64
#define FASTPATH_TASKS (1 << 14)
#define FASTPATH_ENTRIES 512
#define FASTPATH_KINDS 2 /* of programs that a kernel runs */
#define FASTPATH_BATCH 256
#define FASTPATH_PROGRAMS 64
#define CALL_NUMBERS 512
#define CALL_RETURNS 8 /* at most, of a kind of program */
#define INTERRUPTED_CALLS 256
#define REGISTER_WORDS 36 /* at least, of any machine */
#define AGAIN_NS 1000000 /* by when a call is made again that was interrupted, even if an interrupt of the processor comes first */
#define MARKED_TASKS (1 << 22) /* PID_MAX_LIMIT, include/linux/threads.h */

/* By number, for system calls of the tracer's own kind. */
enum interest { NO_INTEREST, INTEREST, INTEREST_BY_POINTER /* and so on: where this argument is not 0 */ };

/* What a task and its children are, until the next exec. */
enum task_mark {
    MARK_SKIPPED = 1,  /* in real time: its waits and reads are the kernel's */
    MARK_EXECS = 2, /* under a seccomp filter of its own, or a container engine: what it executes is the tracer's to see */
    MARK_ASKS = 4, /* it has a connection to where its clock is served */
    MARK_REWINDS = 8, /* it has had a file in place of one of /proc, which tells its clock's time */
};

enum fastpath_result { STOP, NEWS, NOTHING }; /* or a negative errno */

#define EVENT_CHILD 64 /* of a start (spawn.h): it was seized */

/* What the fastpath has seen to: the event (PTRACE_EVENT_FORK to _EXEC, 0 for an end, EVENT_CHILD) of task `tid`, and of a birth the
 * child and whether it is a thread, of an exec the former id, where the vDSO is, which of `blocks` it was given
 * (FASTPATH_KINDS: none, as it is in real time) and the arguments, of an end the status. When, by the host's CLOCK_MONOTONIC: the tracer hears of it later. */
struct fastpath_entry {
    uint64_t event, tid, what, base, kind, at_ns;
    struct arguments arguments;
};

/* A program of which it is known whether it is on the clock. */
struct fastpath_program {
    uint64_t is_on_clock;
    struct executed executed;
};

/* What waitpid gave. */
struct fastpath_report { int64_t tid, status; };

/* A system call of task `tid` (0: of none) that was interrupted and is to be made again: the registers (arch/) as it was, and
 * when it was to go on, by the host's CLOCK_MONOTONIC. */
struct interrupted_call { uint64_t tid, at_ns, registers[REGISTER_WORDS]; };

/* Where a system call may return to (arch/), from the clock page on, and how the code there begins; 0: nowhere. */
struct call_return {
    uint64_t place;
    uint32_t code[4];
};

/* A task that was to go on, and by what errno did not. */
struct fastpath_failure { uint64_t tid, error; };

struct fastpath {
    /* Told by the tracer. */
    uint64_t hands_over_all; /* every stop is the tracer's */
    uint64_t special_count;
    uint64_t special[FASTPATH_TASKS]; /* tasks whose stops all are */
    uint64_t watched_count;
    uint64_t watched[FASTPATH_TASKS]; /* tasks whose end is, and whose execs are news at once */
    uint64_t blocks[FASTPATH_KINDS]; /* what programs are taken over with (takeover.h), by their kind; others' execs are the tracer's */
    uint64_t asks_privilege; /* those of files that are set-user-ID or have capabilities are */
    uint64_t selects;        /* `programs` says which are on the clock; others' execs are the tracer's */
    uint64_t program_count;
    struct fastpath_program programs[FASTPATH_PROGRAMS];
    uint64_t sees_files;     /* some program has the stamps of files as its clock has them, */
    uint64_t stamps;         /* all by this struct stamps; 0: the tracer tells them */
    uint64_t page;           /* and this clock page, */
    uint64_t page_mark[2];   /* behind which this stands */
    struct stamp_table stamp_table;
    struct call_return returns[FASTPATH_KINDS * CALL_RETURNS]; /* by the kind of call, as in `stamp_table`: its first, and so on */
    uint64_t host_clock;     /* clock_gettime of the kernel's vDSO in the tracer's process; 0: none does */
    uint64_t mapped;         /* MARKED_TASKS addresses of that page, by task id; 0: it is not to be relied on */
    uint64_t read_clock;     /* clock_gettime for all programs, in the tracer's process; 0: the tracer answers */
    uint64_t served;         /* bit per clock id that it answers */
    uint64_t lets_calls_go;  /* of tasks that stop at every system call those that are of no interest */
    uint64_t patience_ns;    /* how long to wait for a report; 0: until there is one */
    uint64_t waker;       /* its process */
    uint64_t seize_options;  /* PTRACE_O_... (ptrace(2)) */
    uint64_t looks_first;    /* an end is for the tracer to take, or to leave */
    uint64_t overlooks_ends; /* as one that it has left is always there */
    volatile uint64_t *spawns; /* FASTPATH_LIST addresses of a struct spawn (spawn.h), or 0; other threads write them at any time */
    /* Told by the fastpath. */
    uint64_t report_count;   /* the tracer's to handle: the first, and what came with it */
    struct fastpath_report reports[FASTPATH_BATCH];
    uint64_t entry_count;
    struct fastpath_entry entries[FASTPATH_ENTRIES];
    uint64_t reader_count;
    uint64_t readers[FASTPATH_LIST]; /* tasks that it has answered */
    uint64_t failure_count;
    struct fastpath_failure failures[FASTPATH_LIST];
    uint64_t is_not_taken;   /* the last report, of an end */
    /* The fast path's own. */
    uint64_t engine; /* the struct engine that moves the lines now, or 0 */
    uint64_t alone_count;
    uint64_t expected_count;
    uint64_t expected[FASTPATH_LIST]; /* tasks that were born and have yet to have their first stop */
    uint64_t early_count;
    uint64_t early[FASTPATH_LIST]; /* the last tasks whose stop, perhaps the first, came before any parent's report */
    uint8_t interests[CALL_NUMBERS];
    uint8_t of_marked[CALL_NUMBERS]; /* bits of enum task_mark: what is the tracer's of tasks that have one of them */
    struct interrupted_call interrupted[INTERRUPTED_CALLS]; /* by task id, the tracer's too */
    uint64_t marks; /* MARKED_TASKS bytes, an enum task_mark by task id */
    struct wait_table waits; /* no records: every timed wait is the tracer's */
};

void begin_news(struct fastpath *fastpath);
long wait_for_news(struct fastpath *fastpath);
long end_call(uint64_t tid, long result);
int has_report(uint64_t tid);
void go_to_exit(struct fastpath *fastpath, uint64_t tid);

#endif
