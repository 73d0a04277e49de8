/* Arithmetic of spans of time: by integers of 128 bits, or where the compiler has none, by those and the division that arch/
 * has.
 */
#ifndef VDSOTIME_SPANS_H
#define VDSOTIME_SPANS_H

#include <stdint.h>

#define SECOND_NS 1000000000u

#ifdef __SIZEOF_INT128__
/* (ns * mult) >> shift, INT64_MAX at most. */
static inline uint64_t scale_ns(uint64_t ns, uint64_t mult, uint32_t shift)
{
    unsigned __int128 way = (unsigned __int128)ns * mult >> shift;
    return way > INT64_MAX ? INT64_MAX : (uint64_t)way;
}

static inline uint64_t split_ns(uint64_t ns, uint32_t *nsec)
{
    *nsec = (uint32_t)(ns % SECOND_NS);
    return ns / SECOND_NS;
}
#else
/* In 128 bits as on paper: four products of 32 bits each. */
static inline uint64_t scale_ns(uint64_t ns, uint64_t mult, uint32_t shift)
{
    uint64_t low = (ns & UINT32_MAX) * (mult & UINT32_MAX);
    uint64_t middle = (ns >> 32) * (mult & UINT32_MAX) + (low >> 32);
    uint64_t other = (ns & UINT32_MAX) * (mult >> 32) + (middle & UINT32_MAX);
    uint64_t high = (ns >> 32) * (mult >> 32) + (middle >> 32) + (other >> 32);
    low = other << 32 | (low & UINT32_MAX);
    uint64_t way = shift ? high << (64 - shift) | low >> shift : low;
    return high >> shift || way > INT64_MAX ? INT64_MAX : way;
}

/* Seconds, and what is left of them: one division for each half. */
static inline uint64_t split_ns(uint64_t ns, uint32_t *nsec)
{
    uint32_t high = (uint32_t)(ns >> 32);
    uint32_t low = divide(high % SECOND_NS, (uint32_t)ns, SECOND_NS, nsec);
    return (uint64_t)(high / SECOND_NS) << 32 | low;
}
#endif

#endif
