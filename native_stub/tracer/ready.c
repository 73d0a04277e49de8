/* Whether what a task is about to wait for is there already. */
#include "engine.h"

#include "tracer.h"

#define POLLIN 1
#define POLLPRI 2
#define POLLOUT 4
#define KCMP_FILES 2 /* linux/kcmp.h */
#define MOST_DESCRIPTORS 4
#define SET_BITS 64

struct poll_descriptor { int32_t fd; int16_t events, found; };

static int reads(uint64_t tid, uint64_t address, void *data, uint64_t size)
{
    struct span here = {data, size}, there = {(void *)address, size};
    return syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0) == (long)size;
}

/* Looks at copies of the descriptors, MOST_DESCRIPTORS at most. Of what cannot be found out some may be ready. */
static int are_none_ready(const struct sample *sample, struct poll_descriptor *ends, uint64_t count)
{
    struct poll_descriptor copies[MOST_DESCRIPTORS];
    const struct timespec none = {0, 0};
    uint64_t copied = 0;
    if (!count)
        return 1;
    if (sample->tid != sample->pid && syscall5(NR_kcmp, sample->tid, sample->pid, KCMP_FILES, 0, 0) != 0)
        return 0; /* its table of descriptors is its own */
    long process = syscall2(NR_pidfd_open, sample->pid, 0);
    int is_known = process >= 0;
    for (uint64_t i = 0; i < count && is_known; i++) {
        if (ends[i].fd < 0)
            continue; /* as poll(2) */
        long copy = syscall3(NR_pidfd_getfd, process, ends[i].fd, 0);
        is_known = copy >= 0;
        if (is_known)
            copies[copied++] = (struct poll_descriptor){copy, ends[i].events, 0};
    }
    is_known = is_known && syscall5(NR_ppoll, copies, copied, &none, 0, 0) == 0;
    for (uint64_t i = 0; i < copied; i++)
        syscall1(NR_close, copies[i].fd);
    if (process >= 0)
        syscall1(NR_close, process);
    return is_known;
}

static int is_none_of_poll(const struct sample *sample, uint64_t address, uint64_t count)
{
    struct poll_descriptor ends[MOST_DESCRIPTORS];
    if (count > MOST_DESCRIPTORS || (count && !reads(sample->tid, address, ends, count * sizeof ends[0])))
        return 0;
    return are_none_ready(sample, ends, count);
}

static int is_none_of_sets(const struct sample *sample, const struct wait_record *wait)
{
    static const int16_t EVENTS[] = {POLLIN, POLLOUT, POLLPRI};
    struct poll_descriptor ends[MOST_DESCRIPTORS];
    uint64_t count = 0, size = (uint32_t)wait->arguments[0];
    if (size > SET_BITS)
        return 0;
    for (int kind = 0; kind < 3; kind++) {
        uint64_t set = 0, address = wait->arguments[1 + kind];
        if (size && address && !reads(sample->tid, address, &set, sizeof set))
            return 0;
        for (uint64_t fd = 0; fd < size; fd++) {
            if (!(set >> fd & 1))
                continue;
            if (count == MOST_DESCRIPTORS)
                return 0;
            ends[count++] = (struct poll_descriptor){fd, EVENTS[kind], 0};
        }
    }
    return are_none_ready(sample, ends, count);
}

/* Signals apart. A wait that is not known here is the kernel's. */
int is_nothing_there(const struct sample *sample, const struct wait_record *wait)
{
    struct poll_descriptor queue = {wait->arguments[0], POLLIN, 0};
    uint32_t word;
    switch (wait->nr) {
    case NR_nanosleep:
    case NR_clock_nanosleep:
    case NR_rt_sigtimedwait:
        return 1;
    case NR_futex:
        return reads(sample->tid, wait->arguments[0], &word, sizeof word) && word == (uint32_t)wait->arguments[2];
#ifdef NR_poll
    case NR_poll:
#endif
    case NR_ppoll:
        return is_none_of_poll(sample, wait->arguments[0], wait->arguments[1]);
#ifdef NR_epoll_wait
    case NR_epoll_wait:
#endif
    case NR_epoll_pwait:
    case NR_epoll_pwait2:
        return are_none_ready(sample, &queue, 1);
#ifdef NR_select
    case NR_select:
#endif
    case NR_pselect6:
        return is_none_of_sets(sample, wait);
    }
    return 0;
}
