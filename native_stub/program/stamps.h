/* How the wall line of a clock has gone, for the time stamps of files: the tracer writes it, under the clock page's sequence
 * lock, and programs find their stamps in it.
 */
#ifndef VDSOTIME_PROGRAM_STAMPS_H
#define VDSOTIME_PROGRAM_STAMPS_H

#include "spans.h"

#include <stdint.h>

#define STAMP_PIECES 65536 /* of the line; a multiple of 4 */
#define KEPT_STAMPS 131072
#define STAMPS_IN_SET 16
#define STAMP_SECOND 1000000000LL
#define FORESEEN_NS (100 * 86400 * STAMP_SECOND) /* a clock that lives longer may take a stamp that was set for a real one */

/* The wall line from one stamp of the host on: it reads sec and nsec where the host's CLOCK_REALTIME reads start_ns, and goes
 * as in struct vdso_line. */
struct stamp_piece {
    int64_t from_ns, start_ns;
    uint64_t mult;
    int64_t sec;
    uint32_t nsec, shift;
};

struct stamps {
    int64_t file;     /* a descriptor of a file of the tracer's own, whose stamp says when the line has moved */
    uint64_t is_fine; /* which is later than all stamps from before, and no later than those from behind; else the kernel's
                       * next tick is waited for */
    int64_t limit_ns; /* of what programs find that is newer the tracer knows whether it was set to an instant to come */
    uint64_t count;
    struct stamp_piece pieces[STAMP_PIECES];
    uint64_t kept_count;
    int64_t kept[KEPT_STAMPS]; /* stamps that programs have set to an instant of the clock's life, in sets by their hash */
};

/* Nanoseconds since the epoch, where they can tell an instant of any clock's life; else 0. */
static inline int64_t stamp_ns_of(int64_t sec, uint32_t nsec)
{
    return sec > 0 && sec < INT64_MAX / STAMP_SECOND ? sec * STAMP_SECOND + nsec : 0;
}

static inline uint64_t stamp_set_of(int64_t stamp_ns)
{
    uint64_t hash = (uint64_t)stamp_ns * 0x9e3779b97f4a7c15ULL >> 32; /* Fibonacci hashing */
    return hash % (KEPT_STAMPS / STAMPS_IN_SET) * STAMPS_IN_SET;
}

static inline int is_kept_stamp(const volatile struct stamps *stamps, int64_t stamp_ns)
{
    const volatile int64_t *set = &stamps->kept[stamp_set_of(stamp_ns)];
    for (int i = 0; stamps->kept_count && i < STAMPS_IN_SET; i++)
        if (set[i] == stamp_ns)
            return 1;
    return 0;
}

/* What the clock has for a stamp of the host. Returns 0 for one that is none of its life, or newer than `limit_ns`: it is as
 * it is. `cut_ns`: by less than this it may have been cut, as where it is told in whole seconds; then it is taken to be from
 * behind the last move of that time. */
static inline int find_stamp(const volatile struct stamps *stamps, int64_t limit_ns, uint32_t cut_ns, int64_t *sec, uint32_t *nsec)
{
    int64_t stamp_ns = stamp_ns_of(*sec, *nsec), latest_ns = stamp_ns + cut_ns - 1;
    uint64_t low = 0, high = stamps->count;
    if (!high || high > STAMP_PIECES || latest_ns < stamps->pieces[0].from_ns || stamp_ns > limit_ns
        || is_kept_stamp(stamps, stamp_ns))
        return 0;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (stamps->pieces[middle].from_ns <= latest_ns)
            low = middle;
        else
            high = middle;
    }
    const volatile struct stamp_piece *piece = &stamps->pieces[low];
    int64_t at_ns = stamp_ns > piece->from_ns ? stamp_ns : piece->from_ns;
    uint64_t real_ns = at_ns > piece->start_ns ? at_ns - piece->start_ns : 0;
    uint64_t way_ns = scale_ns(real_ns, piece->mult, piece->shift & 63) + piece->nsec;
    *sec = piece->sec + (int64_t)split_ns(way_ns, nsec);
    return 1;
}

#endif
