/* What is known of a task: whether it is blocked, and in what. One record per task, for as long as it lives. */
#ifndef VDSOTIME_SAMPLE_H
#define VDSOTIME_SAMPLE_H

#include <stdint.h>

enum sample_file { FILE_SYSCALL, FILE_SCHEDSTAT, FILE_STAT, FILE_WCHAN, SAMPLE_FILES };

/* Which of its waits may be for the answer of a peer off the clock, so that whether time passes is for Python to say. */
enum asks { ASKS_NOBODY, ASKS, ASKS_ALONE }; /* none; all but sleeps; those for one descriptor alone */

struct sample {
    uint64_t tid, pid;
    uint64_t leads_others; /* the first thread of a process that has more: its end is told after theirs */
    uint64_t is_known;     /* it was blocked in this call when it had run this often */
    uint64_t is_busy, has_run;
    uint64_t state; /* a letter, as in /proc/PID/stat */
    uint64_t runs;
    uint64_t worked_ns; /* the processor time of its process when it was known to be blocked */
    uint64_t nr, arguments[6], stack, counter; /* the call that it is blocked in; nr is -1 where it is in none */
    uint64_t is_held;   /* by the engine, at the entry of a sleep */
    uint64_t has_waited; /* it has begun a wait that the engine knows since Python looked last, */
    uint64_t reached_ns; /* and this is the length of its last wait if its deadline was reached, else 0 */
    uint64_t ends_polls; /* one of them shows that it does not poll for a later time */
    uint64_t asks;       /* its process has peers off the clock (enum asks) */
    uint64_t is_new, is_off; /* within one look: it was not known before; it has left its processor */
    int32_t files[SAMPLE_FILES]; /* kept descriptors and 1; 0: none */
};

uint64_t state_of(struct sample *sample);
long look(struct sample **samples, uint64_t count, uint64_t is_brief);

#endif
