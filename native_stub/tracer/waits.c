/* The records of waits: a hash table by task, open, with linear probing. */
#include "waits.h"

#include "tracer.h"

#define NSEC_PER_SEC 1000000000U
#define TIMER_ABSTIME 1
#define CLOCK_REALTIME 0 /* linux/time.h */
#define CLOCK_MONOTONIC 1
/* linux/futex.h */
#define FUTEX_WAIT 0
#define FUTEX_WAIT_BITSET 9
#define FUTEX_PRIVATE_FLAG 128
#define FUTEX_CLOCK_REALTIME 256
#define PTRACE_GETSIGMASK 0x420a /* linux/ptrace.h */
#define MAX_NS INT64_MAX

static uint64_t place_of(const struct wait_table *table, uint64_t tid)
{
    return tid * 0x9e3779b97f4a7c15ULL >> 20 & table->mask; /* Fibonacci hashing */
}

static struct wait_record *slot_of(const struct wait_table *table, uint64_t tid)
{
    struct wait_record *records = (struct wait_record *)table->records;
    uint64_t i = place_of(table, tid);
    while (records[i].tid && records[i].tid != tid)
        i = (i + 1) & table->mask;
    return &records[i];
}

__attribute__((visibility("default")))
struct wait_record *find_record(const struct wait_table *table, uint64_t tid)
{
    struct wait_record *record = table->records ? slot_of(table, tid) : 0;
    return record && record->tid ? record : 0;
}

/* Those behind it that it kept from their place move up. */
__attribute__((visibility("default")))
void drop_record(struct wait_table *table, uint64_t tid)
{
    struct wait_record *records = (struct wait_record *)table->records, *record = find_record(table, tid);
    if (!record)
        return;
    table->count--;
    uint64_t hole = record - records;
    for (uint64_t i = (hole + 1) & table->mask; records[i].tid; i = (i + 1) & table->mask)
        if (((i - place_of(table, records[i].tid)) & table->mask) >= ((i - hole) & table->mask)) {
            records[hole] = records[i];
            hole = i;
        }
    records[hole].tid = 0;
}

/* Whether a stopped system call takes signals that are not blocked, of which the kernel queues ignored ones for a tracee
 * (tracer/calls/signals.py). */
int takes_unblocked(uint64_t tid, const struct syscall_info *info)
{
    uint64_t set, mask;
    struct span here = {&set, sizeof set}, there = {(void *)info->args[0], sizeof set};
    if (info->arch != AUDIT_ARCH || info->nr != NR_rt_sigtimedwait)
        return 0;
    if (syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0) != sizeof set)
        return 1;
    return syscall4(NR_ptrace, PTRACE_GETSIGMASK, tid, sizeof mask, &mask) < 0 || set & ~mask;
}

/* Whether its timeout is a span or a point, and on which line; or of another clock. */
static int is_of_line(const struct wait_table *table, const struct syscall_info *info, struct wait_record *wait)
{
    uint32_t id = info->args[0], operation = info->args[1] & ~FUTEX_PRIVATE_FLAG;
    switch (info->nr) {
    case NR_futex:
        wait->is_absolute = (operation & ~FUTEX_CLOCK_REALTIME) == FUTEX_WAIT_BITSET;
        wait->clock = wait->is_absolute && operation & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
        return wait->is_absolute || (operation & ~FUTEX_CLOCK_REALTIME) == FUTEX_WAIT;
    case NR_futex_wait:
    case NR_futex_waitv:
        wait->is_absolute = 1;
        wait->clock = (uint32_t)info->args[info->nr == NR_futex_wait ? 5 : 4];
        return wait->clock <= CLOCK_MONOTONIC;
    case NR_mq_timedsend:
    case NR_mq_timedreceive:
        wait->is_absolute = 1;
        wait->clock = CLOCK_REALTIME;
        return 1;
    case NR_clock_nanosleep:
        wait->is_absolute = info->args[1] & TIMER_ABSTIME;
        wait->clock = wait->is_absolute && id == CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
        return wait->is_absolute ? id <= CLOCK_MONOTONIC : id < 64 && table->clocks >> id & 1;
    }
    return 1;
}

/* What a stopped system call waits for, and for how long or until when; its kind, or 0 if it is no timed wait that is known
 * here, or none that the kernel takes, or a poll, after which the program may be looking for a later time. */
unsigned reads_wait(const struct wait_table *table, uint64_t tid, const struct syscall_info *info,
                    struct wait_record *wait, uint64_t *timeout_ns)
{
    struct timespec now;
    if (info->arch != AUDIT_ARCH || info->nr >= WAIT_NUMBERS || !table->kinds[info->nr])
        return 0;
    if (table->count > table->mask / 2 || takes_unblocked(tid, info))
        return 0;
    *wait = (struct wait_record){.tid = tid, .nr = info->nr, .stack = info->stack_pointer,
                                 .counter = info->instruction_pointer, .clock = CLOCK_MONOTONIC};
    for (int i = 0; i < 6; i++)
        wait->arguments[i] = info->args[i];
    if (!is_of_line(table, info, wait))
        return 0;
    wait->line = wait->clock == CLOCK_REALTIME ? WALL_LINE : MONOTONIC_LINE;
    unsigned kind = table->kinds[info->nr];
    uint64_t argument = info->args[kind & WAIT_ARGUMENT];
    if (kind & WAIT_BY_VALUE) {
        *timeout_ns = (uint32_t)argument * 1000000ULL;
    } else {
        struct span here = {wait->timeout, sizeof wait->timeout}, there = {(void *)argument, sizeof wait->timeout};
        if (syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0) != sizeof wait->timeout)
            return 0;
        uint64_t unit = kind & WAIT_TIMEVAL ? 1000 : 1;
        if (wait->timeout[0] >= MAX_NS / NSEC_PER_SEC || wait->timeout[1] >= NSEC_PER_SEC / unit)
            return 0;
        *timeout_ns = wait->timeout[0] * NSEC_PER_SEC + wait->timeout[1] * unit;
    }
    if (!*timeout_ns)
        return 0;
    uint64_t rest = info->nr == NR_nanosleep ? info->args[1] : info->nr == NR_clock_nanosleep ? info->args[3] : 0;
    if (rest && !wait->is_absolute) {
        struct span here = {wait->rest, sizeof wait->rest}, there = {(void *)rest, sizeof wait->rest};
        wait->has_rest = 1;
        if (syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0) != sizeof wait->rest)
            return 0;
    }
    syscall2(NR_clock_gettime, CLOCK_MONOTONIC, (long)&now);
    wait->ahead_ns = table->ahead_ns;
    wait->began_ns = now.sec * (uint64_t)NSEC_PER_SEC + now.nsec;
    return kind;
}

__attribute__((visibility("default")))
void put_record(struct wait_table *table, const struct wait_record *record)
{
    struct wait_record *slot = slot_of(table, record->tid);
    table->count += !slot->tid;
    *slot = *record;
}

/* Whether a stopped system call is a timed wait that lasts what it says, and now recorded: on a monotonic line that only its
 * steps forward tell from the host's. */
int begins_wait(struct wait_table *table, uint64_t tid, const struct syscall_info *info)
{
    struct wait_record wait;
    uint64_t timeout_ns;
    if (!table->begins || !reads_wait(table, tid, info, &wait, &timeout_ns) || wait.line != MONOTONIC_LINE)
        return 0;
    if (wait.is_absolute && wait.ahead_ns)
        return 0;
    int64_t now_ns = wait.began_ns + wait.ahead_ns;
    uint64_t due_ns = wait.is_absolute ? timeout_ns : now_ns + timeout_ns;
    wait.due_ns = due_ns > MAX_NS ? MAX_NS : due_ns; /* that of a longer wait is never, as the kernel's KTIME_MAX */
    wait.length_ns = wait.due_ns > now_ns ? wait.due_ns - now_ns : 0;
    put_record(table, &wait);
    return 1;
}
