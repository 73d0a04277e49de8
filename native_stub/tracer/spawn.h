/* What a thread that starts a program, its child and the tracer tell each other. */
#ifndef VDSOTIME_SPAWN_H
#define VDSOTIME_SPAWN_H

#include <stdint.h>

#define CHILD_COMES 1 /* SIGHUP: what the waker gets when a child is about to be born, or has been */
#define CANCELED 2 /* patience at the birth of a child that is not wanted any more */

enum stage { AS_LAUNCHER, IN_DIRECTORY, ELSEWHERE }; /* where a child has failed, or what its exit status means (launch.c) */

/* A start. pytest_vdsotime/kernel/spawn.py has the same layout. */
struct spawn {
    volatile uint64_t patience, state; /* launch.h */
    volatile int64_t pid; /* 0: not born yet */
    volatile uint64_t rings; /* at its birth, as the tracer does not look for it */
    uint64_t is_taken; /* the tracer has seized it, and released it */
    volatile uint64_t failed_in;
    uint64_t waker, parent; /* process ids */
    uint64_t filter, filter_length;
    uint64_t candidates, candidate_count, argv, envp, directory; /* 0: none to go to */
    uint64_t kept, kept_count; /* descriptors, in their order */
    uint64_t closes_others, restores_signals, begins_session;
    int64_t group, umask; /* -1: as it is */
    int64_t superfluous[4]; /* descriptors of the parent's; -1: none */
    int64_t streams[3]; /* what is to be stdin, stdout, stderr; -1: as it is */
    uint64_t signals; /* the mask */
};

/* Lets the child execute its program. Returns whether it is awake, and so hears of it. */
long release_spawn(struct spawn *s);

/* If the child is not born yet, it is to ring: look for it once more. */
void have_ring(struct spawn *s);

#endif
