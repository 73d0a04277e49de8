/* The records of waits: a hash table by task, open, with linear probing. */
#include "waits.h"

#include "tracer.h"

#define CLOCK_MONOTONIC 1
#define TIMER_ABSTIME 1
/* linux/futex.h */
#define FUTEX_WAIT 0
#define FUTEX_WAIT_BITSET 9
#define FUTEX_PRIVATE_FLAG 128
#define FUTEX_CLOCK_REALTIME 256
#define PTRACE_GETSIGMASK 0x420a /* linux/ptrace.h */

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

/* Whether it lasts what it says: on a monotonic line that only its steps forward tell from the host's. */
static int is_as_written(const struct wait_table *table, const struct syscall_info *info, uint64_t *is_absolute)
{
    uint32_t id = info->args[0], operation = info->args[1] & ~FUTEX_PRIVATE_FLAG;
    switch (info->nr) {
    case NR_futex:
        *is_absolute = operation == FUTEX_WAIT_BITSET;
        return *is_absolute ? !table->ahead_ns : (operation & ~FUTEX_CLOCK_REALTIME) == FUTEX_WAIT;
    case NR_clock_nanosleep:
        *is_absolute = info->args[1] & TIMER_ABSTIME;
        if (*is_absolute)
            return id == CLOCK_MONOTONIC && !table->ahead_ns;
        return id < 64 && table->clocks >> id & 1;
    }
    return 1;
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

/* Whether a stopped system call is such a wait, and now recorded. */
int begins_wait(struct wait_table *table, uint64_t tid, const struct syscall_info *info)
{
    struct timespec now;
    if (!table->begins || info->arch != AUDIT_ARCH || info->nr >= WAIT_NUMBERS || !table->kinds[info->nr])
        return 0;
    if (table->count > table->mask / 2 || takes_unblocked(tid, info))
        return 0;
    struct wait_record wait = {.tid = tid, .nr = info->nr, .stack = info->stack_pointer,
                               .counter = info->instruction_pointer};
    for (int i = 0; i < 6; i++)
        wait.arguments[i] = info->args[i];
    if (!is_as_written(table, info, &wait.is_absolute))
        return 0;
    unsigned kind = table->kinds[info->nr];
    if (kind >= WAIT_BY_POINTER) {
        struct span here = {wait.timeout, sizeof wait.timeout};
        struct span there = {(void *)info->args[kind - WAIT_BY_POINTER], sizeof wait.timeout};
        if (syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0) != sizeof wait.timeout)
            return 0;
        if (!wait.timeout[0] && !wait.timeout[1])
            return 0; /* a poll, after which the program may be looking for a later time */
    }
    uint64_t rest = info->nr == NR_nanosleep ? info->args[1] : info->nr == NR_clock_nanosleep ? info->args[3] : 0;
    if (rest) {
        struct span here = {wait.rest, sizeof wait.rest}, there = {(void *)rest, sizeof wait.rest};
        wait.has_rest = 1;
        if (syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0) != sizeof wait.rest)
            return 0;
    }
    syscall2(NR_clock_gettime, CLOCK_MONOTONIC, (long)&now);
    wait.ahead_ns = table->ahead_ns;
    wait.began_ns = now.sec * 1000000000ULL + now.nsec;
    struct wait_record *record = slot_of(table, tid);
    table->count += !record->tid;
    *record = wait;
    return 1;
}
