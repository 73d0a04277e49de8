/* What a thread that starts a program, its child and the tracer tell each other. */
#ifndef VDSOTIME_SPAWN_H
#define VDSOTIME_SPAWN_H

#include <stdint.h>

#define CHILD_COMES 1 /* SIGHUP: what the waker gets when a child is about to be born, or has been */
#define CANCELED 2 /* patience at the birth of a child that is not wanted any more */

#define EXIT_NO_PARENT 125
#define EXIT_NO_FILTER 255

/* Where a child has failed: at its exec (its exit status is the errno, or EXIT_NO_FILTER), at chdir, or before. */
enum stage { AT_EXEC, IN_DIRECTORY, ELSEWHERE };

/* Whether the child waits. The tracer releases it by writing 0 to its patience, and if it then finds it asleep, by a
 * ptrace stop. Each writes before it reads what the other writes: a release is not missed. */
enum state { NOT_BEGUN, AWAKE, ASLEEP };

/* A start. In memory that the child has too: the parent's own
 * where it shares that, else a mapping that both share. */
struct spawn {
    volatile uint64_t patience, state; /* whether the child is to wait, and enum state */
    volatile int64_t pid; /* 0: not born yet */
    volatile uint64_t rings; /* by this signal at its birth, as the tracer does not look for it; 0: it does */
    uint64_t is_taken; /* the tracer has seized it, and released it, */
    uint64_t is_asleep; /* and is yet to wake it up by a stop */
    uint64_t mark; /* what the child is until its exec (enum task_mark, fastpath.h) */
    volatile uint64_t failed_in;
    uint64_t waker, parent; /* process ids */
    uint64_t filter, filter_length;
    uint64_t candidates, candidate_count, argv, envp, directory; /* 0: none to go to */
    uint64_t kept, kept_count; /* descriptors, in their order */
    uint64_t closes_others, restores_signals, begins_session;
    int64_t group, umask; /* -1: as it is */
    int64_t superfluous[4]; /* descriptors of the parent's; -1: none */
    int64_t streams[3]; /* what is to be stdin, stdout, stderr; -1: as it is */
    uint64_t groups; /* of uint32_t */
    int64_t group_count, gid, uid; /* -1: as it is */
    uint64_t shares_memory;
    uint64_t signals; /* the mask */
    volatile uint64_t holder; /* of a gate (`enlist`): who goes through; 0: nobody */
    volatile uint64_t is_closed; /* nobody is let through any more */
};

/* Lets the child execute its program. Returns whether it is awake, and so hears of it. */
long release_spawn(struct spawn *s);

/* If the child is not born yet, it is to ring: look for it once more. */
void have_ring(struct spawn *s);

#endif
