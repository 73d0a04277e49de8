/* The engine: the earliest deadline, the lines move, what is due ends, the programs come to rest; again. */
#include "engine.h"

#include "fastpath.h"
#include "program/page.h"
#include "tracer.h"

#define NSEC_PER_SEC 1000000000U
#define MAX_NS INT64_MAX
#define EINTR 4
#define EFAULT 14
#define EINVAL 22
/* include/linux/errno.h */
#define ERESTARTSYS 512
#define ERESTART_RESTARTBLOCK 516
/* linux/time.h */
#define CLOCK_REALTIME 0
#define CLOCK_MONOTONIC 1
/* linux/ptrace.h */
#define PTRACE_SYSCALL 24
#define PTRACE_INTERRUPT 0x4207
#define PTRACE_PEEKSIGINFO 0x4209
#define PEEKSIGINFO_SHARED 1
#define KCMP_FILE 0 /* linux/kcmp.h */
#define TFD_IOC_SET_TICKS 0x40085400 /* linux/timerfd.h */
#define POLLIN 1
#define FD_SET_WORDS 1 /* of a set of descriptors that every process has room for (NR_OPEN_DEFAULT, linux/fdtable.h) */

#define MOST_IN_CROWD 1000 /* to find the first of so many for each that ends would take long */
#define BUSY_NS 1000000U   /* programs that are not at rest for so long are Python's to look after, */
#define BUSY_LOOKS 8       /* and at so many looks, */
#define LONG_NS 100000000U /* and other things once in a while */
#define PATIENCE_NS 100000U /* a processor that is idle may take as long to wake up for a task */

static uint64_t host_ns(void)
{
    struct timespec now;
    syscall2(NR_clock_gettime, CLOCK_MONOTONIC, &now);
    return now.sec * (uint64_t)NSEC_PER_SEC + now.nsec;
}

/* Whether signals wait for a stopped task or for its process, which its sleep is to notice. */
static int has_signals(uint64_t tid)
{
    struct { uint64_t offset; uint32_t flags; int32_t count; } which = {0, 0, 1};
    char info[128];
    for (which.flags = 0; which.flags <= PEEKSIGINFO_SHARED; which.flags++)
        if (syscall4(NR_ptrace, PTRACE_PEEKSIGINFO, tid, &which, info) != 0)
            return 1;
    return 0;
}

static int writes(uint64_t tid, uint64_t address, void *data, uint64_t size)
{
    struct span here = {data, size}, there = {(void *)address, size};
    return !address || syscall6(NR_process_vm_writev, tid, (long)&here, 1, (long)&there, 1, 0) == (long)size;
}

static void shift_clocks(struct vdso_page *page, uint64_t by_ns)
{
    for (int id = 0; id < VDSO_CLOCK_IDS; id++)
        if (page->served >> id & 1) {
            uint64_t nsec = page->clocks[id].nsec + by_ns % NSEC_PER_SEC;
            page->clocks[id].sec += by_ns / NSEC_PER_SEC + nsec / NSEC_PER_SEC;
            page->clocks[id].nsec = nsec % NSEC_PER_SEC;
        }
}

/* Time passes: all clocks that are read from the page go on. `stamps` may be NULL. */
__attribute__((visibility("default")))
void move_lines(struct vdso_page *page, struct stamps *stamps, uint64_t by_ns)
{
    __atomic_store_n(&page->seq, page->seq + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    shift_clocks(page, by_ns);
    if (stamps)
        note_page(stamps, page);
    __atomic_store_n(&page->seq, page->seq + 1, __ATOMIC_RELEASE);
}

/* Nothing of a program that has ended, or has executed another. Where it cannot be written Python has to hear of it. */
static void write_copy(struct engine *engine, const struct engine_copy *copy, uint64_t offset, uint64_t size)
{
    const char *bytes = (const char *)&copy->page + offset;
    engine->has_stale_copies |= syscall4(NR_pwrite64, copy->memory, bytes, size, copy->address + offset) < 0;
}

/* Likewise of the private copies, whose sequence numbers are those of the page. */
static void move_copies(struct engine *engine, uint64_t by_ns)
{
    struct engine_copy *copies = (struct engine_copy *)engine->copies, *end = copies + engine->copy_count;
    for (struct engine_copy *copy = copies; copy < end; copy++) {
        copy->page.seq++;
        write_copy(engine, copy, 0, sizeof copy->page.seq);
        shift_clocks(&copy->page, by_ns);
        write_copy(engine, copy, offsetof(struct vdso_page, lines), sizeof copy->page - offsetof(struct vdso_page, lines));
        copy->page.seq++;
        write_copy(engine, copy, 0, sizeof copy->page.seq);
    }
}

static struct sample *sample_of(const struct engine *engine, uint64_t tid)
{
    struct sample **samples = (struct sample **)engine->samples;
    for (uint64_t i = 0; i < engine->count; i++)
        if (samples[i]->tid == tid)
            return samples[i];
    return 0;
}

/* --- waits begin and end --- */

/* How long it is until a point of a clock that stands still; not beyond what a line can read. */
static int64_t left_ns(const struct vdso_page *page, uint64_t id, uint64_t point_ns)
{
    int64_t sec = (int64_t)(point_ns / NSEC_PER_SEC) - page->clocks[id].sec;
    if (sec < -(int64_t)NSEC_PER_SEC || sec > (int64_t)NSEC_PER_SEC)
        return sec < 0 ? -1 : MAX_NS;
    return sec * (int64_t)NSEC_PER_SEC + (int64_t)(point_ns % NSEC_PER_SEC) - page->clocks[id].nsec;
}

/* select(2) leaves its sets empty when its time is up. */
static int clears_sets(uint64_t tid, const struct wait_record *wait)
{
    uint64_t none[FD_SET_WORDS] = {0};
    uint32_t count = wait->arguments[0];
    if (count > 64 * FD_SET_WORDS)
        return 0;
    for (int i = 1; i <= 3; i++)
        if (count && !writes(tid, wait->arguments[i], none, sizeof none))
            return 0;
    return 1;
}

/* What the kernel leaves in memory when the time is up: of a sleep nothing, but it has when that was interrupted. */
static int leaves_nothing(uint64_t tid, unsigned kind, struct wait_record *wait)
{
    uint64_t none[2] = {0, 0};
    if (wait->has_rest && wait->keeper == KEPT_ENDLESS)
        writes(tid, wait->arguments[wait->nr == NR_nanosleep ? 1 : 3], wait->rest, sizeof wait->rest);
    if (kind & WAIT_FD_SETS && !clears_sets(tid, wait))
        return 0;
    if (kind & WAIT_WRITES_BACK)
        writes(tid, wait->arguments[kind & WAIT_ARGUMENT], none, sizeof none);
    return 1;
}

/* At the exit of a call that was endless to the kernel: whether it is over, which is told as if it had not been. What a signal
 * has interrupted is Python's, and what has failed. */
int lets_kept_end(const struct wait_table *table, uint64_t tid, struct wait_record *wait)
{
    struct registers registers;
    unsigned kind = table->kinds[wait->nr];
    if (get_registers(tid, &registers) < 0)
        return 0;
    int64_t result = registers.SYSCALL_RESULT;
    int is_over = !(result == -EINTR || (result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK));
    if (is_over && (kind & WAIT_WRITES_BACK || result == -EFAULT || result == -EINVAL))
        return 0;
    if (!is_over) {
        if (!wait->is_expiring || !leaves_nothing(tid, kind, wait))
            return 0;
        result = table->expired[wait->nr];
        registers.INTERRUPTED_SYSCALL = -1; /* nor is it made again */
    }
    *argument_of(&registers, kind & WAIT_ARGUMENT) = wait->arguments[kind & WAIT_ARGUMENT];
    registers.SYSCALL_RESULT = result;
    return set_registers(tid, &registers) >= 0;
}

/* --- time passes --- */

struct due {
    uint64_t pending, count; /* how many wait, and how many of these until the next step, */
    uint64_t sleeping; /* and how many for nothing else */
    uint64_t brief;    /* and how many for a moment */
    uint64_t asking;   /* who may wait for the answer of a peer */
    struct wait_record *wait;
    struct sample *sample;
    struct engine_timer *timer; /* the first of all: one or the other */
    int64_t due_ns;
    uint64_t set_ns;
    int64_t kernel_ns; /* when the kernel would end one of them, by the host's CLOCK_MONOTONIC */
};

/* Whether a task that is blocked is in the wait that it began last. */
static int is_in(const struct wait_record *wait, const struct sample *sample)
{
    if (wait->keeper != KEPT_BY_KERNEL)
        return 1;
    if ((sample->nr != wait->nr && sample->nr != NR_restart_syscall) || sample->stack != wait->stack
        || sample->counter != wait->counter)
        return 0;
    for (int i = 0; i < 6; i++)
        if (sample->arguments[i] != wait->arguments[i])
            return 0;
    return 1;
}

/* Whether a task may wait for the answer of a peer off the clock. */
static int may_ask(const struct wait_table *table, const struct sample *sample, const struct wait_record *wait)
{
    if (!sample->asks || (wait && table->kinds[wait->nr] & WAIT_SLEEP))
        return 0;
    if (sample->asks == ASKS)
        return 1;
    switch (wait ? wait->nr : 0) {
#ifdef NR_poll
    case NR_poll:
#endif
    case NR_ppoll:
        return wait->arguments[1] == 1;
#ifdef NR_select
    case NR_select:
#endif
    case NR_pselect6:
        return 1;
    }
    return 0;
}

static int is_sooner(const struct due *first, int64_t due_ns, uint64_t set_ns)
{
    if (!first->wait && !first->timer)
        return 1;
    return due_ns < first->due_ns || (due_ns == first->due_ns && set_ns < first->set_ns);
}

/* The first deadline, and what else ends before `until_ns`. */
static struct due find_due(const struct engine *engine, const struct wait_table *table, int64_t until_ns)
{
    struct sample **samples = (struct sample **)engine->samples;
    struct engine_timer *timers = (struct engine_timer *)engine->timers;
    struct due due = {.kernel_ns = MAX_NS};
    for (uint64_t i = 0; i < engine->count; i++) {
        struct wait_record *wait = find_record(table, samples[i]->tid);
        due.asking += may_ask(table, samples[i], wait);
        if (!wait || wait->is_expiring || !is_in(wait, samples[i]))
            continue;
        due.pending++;
        due.brief += wait->length_ns <= MOMENT_NS;
        due.count += wait->due_ns <= until_ns;
        due.sleeping += (table->kinds[wait->nr] & WAIT_SLEEP) != 0;
        if (wait->keeper != KEPT_AT_ENTRY && wait->due_ns - wait->ahead_ns < due.kernel_ns)
            due.kernel_ns = wait->due_ns - wait->ahead_ns;
        if (is_sooner(&due, wait->due_ns, wait->began_ns)) {
            due.wait = wait;
            due.sample = samples[i];
            due.due_ns = wait->due_ns;
            due.set_ns = wait->began_ns;
        }
    }
    for (uint64_t i = 0; i < engine->timer_count; i++) {
        if (timers[i].due_ns < 0)
            continue;
        due.pending++;
        due.count += timers[i].due_ns <= until_ns;
        if (is_sooner(&due, timers[i].due_ns, timers[i].set_ns)) {
            due.wait = 0;
            due.timer = &timers[i];
            due.due_ns = timers[i].due_ns;
            due.set_ns = timers[i].set_ns;
        }
    }
    if (due.wait)
        due.timer = 0;
    return due;
}

/* Until when a crowd of brief waits ends together: no other wait has its deadline before. */
static int64_t crowd_until_ns(const struct engine *engine, const struct wait_table *table, const struct due *due)
{
    struct sample **samples = (struct sample **)engine->samples;
    const struct engine_timer *timers = (const struct engine_timer *)engine->timers;
    int64_t first_ns = due->due_ns, end_ns = first_ns + (int64_t)due->brief * WAKE_NS, until_ns = first_ns;
    for (uint64_t i = 0; i < engine->timer_count; i++)
        if (timers[i].due_ns >= first_ns && timers[i].due_ns < end_ns)
            end_ns = timers[i].due_ns;
    for (int is_last = 0; is_last <= 1; is_last++)
        for (uint64_t i = 0; i < engine->count; i++) {
            const struct wait_record *wait = find_record(table, samples[i]->tid);
            if (!wait || wait->is_expiring || wait->due_ns < first_ns || wait->due_ns > end_ns)
                continue;
            if (wait->length_ns > MOMENT_NS)
                end_ns = wait->due_ns;
            else if (is_last && wait->due_ns > until_ns)
                until_ns = wait->due_ns;
        }
    return until_ns;
}

/* Whether a timerfd has its expiration, which nobody has to be told of but who reads it. */
static int expires(struct engine *engine, struct engine_timer *timer)
{
    struct { int32_t fd; int16_t events, found; } ends = {timer->copy, POLLIN, 0};
    struct timespec none = {0, 0};
    uint64_t count = 1;
    if (!timer->is_native || syscall5(NR_kcmp, syscall0(NR_getpid), timer->tid, KCMP_FILE, timer->copy, timer->fd) != 0)
        return 0;
    if (syscall5(NR_ppoll, &ends, 1, &none, 0, 0) != 0)
        return 0; /* it has some that are yet to be read */
    if (timer->interval_ns)
        count += (engine->monotonic_ns - timer->due_ns) / timer->interval_ns;
    if (count > INT32_MAX || syscall3(NR_ioctl, timer->copy, TFD_IOC_SET_TICKS, &count) < 0)
        return 0;
    timer->expirations += count;
    timer->set_ns = host_ns();
    uint64_t next_ns = timer->due_ns + count * timer->interval_ns;
    timer->due_ns = !timer->interval_ns ? -1 : next_ns > MAX_NS ? MAX_NS : (int64_t)next_ns;
    return 1;
}

static void note(struct engine *engine, uint64_t tid, uint64_t what, uint64_t clock, int64_t due_ns)
{
    engine->events[engine->event_count++ % ENGINE_EVENTS] =
        (struct engine_event){host_ns(), engine->passed_ns, tid, what, clock, due_ns};
}

static void go_on_by(struct engine *engine, uint64_t step_ns)
{
    if (step_ns) {
        move_lines((struct vdso_page *)engine->page, (struct stamps *)engine->stamps, step_ns);
        move_copies(engine, step_ns);
    }
    engine->monotonic_ns += step_ns;
    engine->most_ns -= step_ns;
    engine->passed_ns += step_ns;
}

/* Whether data of the programs may be on its way, before a step of such a length (Operations.awaits_network). */
static int may_await_network(const struct engine *engine, const struct due *due, uint64_t step_ns)
{
    if (due->sleeping == engine->count || step_ns < LONG_STEP_NS)
        return 0;
    return (engine->has_streams && step_ns >= RENEWED_NS) || host_ns() >= engine->network_ns;
}

/* When all are at rest: how far it is to the next deadline, and what has it. ENGINE_STOP: it is the engine's. */
static long find_step(const struct engine *engine, const struct wait_table *table, struct due *due, uint64_t *step_ns)
{
    const struct vdso_page *page = (const struct vdso_page *)engine->page;
    *due = find_due(engine, table, engine->monotonic_ns);
    if (!due->pending || due->due_ns == MAX_NS)
        return ENGINE_DONE;
    if (due->asking)
        return ENGINE_PYTHON;
    int64_t until_ns = due->due_ns;
    if (until_ns > engine->monotonic_ns && (uint64_t)(until_ns - engine->monotonic_ns) > engine->most_ns)
        return ENGINE_DONE;
    if (due->brief > CROWD && due->pending > MOST_IN_CROWD)
        return ENGINE_PYTHON; /* which sorts them once */
    if (due->brief > CROWD)
        until_ns = crowd_until_ns(engine, table, due);
    until_ns += engine->slack_ns - engine->monotonic_ns;
    *step_ns = until_ns < 0 ? 0 : (uint64_t)until_ns > engine->most_ns ? engine->most_ns : (uint64_t)until_ns;
    /* The wall line stands still, so that its clock's nanoseconds are its own. */
    uint64_t odd_ns = (page->clocks[CLOCK_REALTIME].nsec + *step_ns) % GRAIN_NS, missing_ns = odd_ns ? GRAIN_NS - odd_ns : 0;
    if (missing_ns <= engine->rounds_ns && missing_ns <= engine->most_ns - *step_ns)
        *step_ns += missing_ns;
    if (may_await_network(engine, due, *step_ns))
        return ENGINE_NETWORK;
    if (due->kernel_ns != MAX_NS && due->kernel_ns < (int64_t)(host_ns() + RENEWED_NS))
        return ENGINE_PYTHON;
    /* Many of one instant end together. */
    if (due->brief <= CROWD && due->pending * due->pending > MAX_LOOKS
        && find_due(engine, table, engine->monotonic_ns + *step_ns).count * due->pending > MAX_LOOKS)
        return ENGINE_PYTHON;
    return due->timer && !due->timer->is_native ? ENGINE_PYTHON : ENGINE_STOP;
}

static long make_step(struct engine *engine, struct wait_table *table, const struct due *due, uint64_t step_ns)
{
    struct wait_record *wait = due->wait;
    go_on_by(engine, step_ns);
    if (due->timer) {
        if (!expires(engine, due->timer))
            return ENGINE_PYTHON;
        note(engine, 0, due->timer - (struct engine_timer *)engine->timers, CLOCK_MONOTONIC, due->due_ns);
        return ENGINE_STOP;
    }
    struct wait_record ended = *wait;
    due->sample->reached_ns = wait->length_ns;
    due->sample->ends_polls |= wait->length_ns >= CARRY_NS;
    due->sample->has_waited = 1;
    due->sample->is_known = 0;
    if (wait->keeper != KEPT_AT_ENTRY) {
        if (syscall4(NR_ptrace, PTRACE_INTERRUPT, wait->tid, 0, 0) < 0)
            return ENGINE_PYTHON;
        wait->is_expiring = 1;
    } else {
        if (end_call(ended.tid, table->expired[ended.nr]) < 0)
            return ENGINE_PYTHON;
        due->sample->is_held = 0;
        drop_record(table, ended.tid);
    }
    /* While the task wakes up. */
    note(engine, ended.tid, ended.nr, ended.clock, ended.due_ns);
    return ENGINE_STOP;
}

/* As make_step; of a crowd all that are due end. */
static long make_steps(struct engine *engine, struct wait_table *table, struct due *due, uint64_t step_ns)
{
    int is_crowd = due->brief > CROWD;
    long result = make_step(engine, table, due, step_ns);
    while (is_crowd && result == ENGINE_STOP) {
        *due = find_due(engine, table, engine->monotonic_ns);
        if (!due->count)
            break;
        result = due->timer && !due->timer->is_native ? ENGINE_PYTHON : make_step(engine, table, due, 0);
    }
    return result;
}

/* Of the tasks that a signal has stopped, whether one goes on, or has ended, and has yet to report it. To be asked last: who
 * has it go on is no more at rest before. */
static int goes_on(const struct engine *engine)
{
    struct sample **stopped = (struct sample **)engine->stopped;
    for (uint64_t i = 0; i < engine->stopped_count; i++) {
        uint64_t state = state_of(stopped[i]);
        if (state == 'R' || (!stopped[i]->leads_others && (state == 'Z' || state == 'X')) || has_report(stopped[i]->tid))
            return 1;
    }
    return 0;
}

/* Whether all are at rest; negative: Python has to see to some. */
static int are_at_rest(const struct engine *engine)
{
    struct sample **samples = (struct sample **)engine->samples;
    if (look(samples, engine->count, 1) != 0)
        return 0;
    for (uint64_t i = 0; i < engine->count; i++) {
        if (samples[i]->is_held && has_signals(samples[i]->tid))
            return -1;
        /* What waits for its end has yet to hear of it. */
        if (!samples[i]->is_known && !samples[i]->is_held && !samples[i]->leads_others)
            return 0;
    }
    return !goes_on(engine);
}

/* Whether the wait that a task is about to begin has the next deadline, and ends at once. */
static int passes(struct fastpath *fastpath, struct engine *engine, struct sample *sample, struct wait_record *wait)
{
    struct wait_table *table = &fastpath->waits;
    struct due due;
    uint64_t step_ns;
    unsigned kind = table->kinds[wait->nr];
    if (fastpath->entry_count || find_step(engine, table, &due, &step_ns) != ENGINE_STOP || due.wait != wait || due.brief > CROWD)
        return 0;
    if (!is_nothing_there(sample, wait) || are_at_rest(engine) != 1 || !leaves_nothing(sample->tid, kind, wait))
        return 0;
    return make_step(engine, table, &due, step_ns) == ENGINE_STOP;
}

/* At the entry of a call: whether it is a timed wait that is the engine's. If all others are at rest and its deadline is the
 * next it ends there, as if it had waited. Else a sleep is held there, and any other is endless to the kernel. One for no time
 * is Python's, which carries its task on. */
int keeps_wait(struct fastpath *fastpath, uint64_t tid, const struct syscall_info *info)
{
    struct engine *engine = (struct engine *)fastpath->engine;
    const struct vdso_page *page = (const struct vdso_page *)engine->page;
    struct sample *sample = sample_of(engine, tid);
    struct wait_table *table = &fastpath->waits;
    struct wait_record wait;
    struct registers registers;
    uint64_t timeout_ns;
    unsigned kind = sample ? reads_wait(table, tid, info, &wait, &timeout_ns) : 0;
    if (!kind)
        return 0;
    int64_t length_ns = timeout_ns > MAX_NS ? MAX_NS : timeout_ns;
    if (!(page->served >> wait.clock & 1))
        return 0;
    if (wait.is_absolute)
        length_ns = left_ns(page, wait.clock, timeout_ns);
    if (length_ns <= 0)
        return 0;
    wait.is_carried = length_ns < CARRY_NS && (uint64_t)length_ns < sample->reached_ns;
    wait.length_ns = length_ns;
    wait.due_ns = length_ns > MAX_NS - engine->monotonic_ns ? MAX_NS : engine->monotonic_ns + length_ns;
    wait.ahead_ns = wait.due_ns - MAX_NS;
    wait.keeper = KEPT_AT_ENTRY;
    if (wait.line == WALL_LINE && engine->ends_early)
        wait.line = EITHER_LINE;
    sample->is_held = 1;
    sample->is_known = 0;
    sample->has_waited = 1;
    if (!wait.is_carried) {
        sample->reached_ns = 0;
        sample->ends_polls = 1;
    }
    put_record(table, &wait);
    if (passes(fastpath, engine, sample, find_record(table, tid)) || kind & WAIT_SLEEP)
        return 1;
    sample->is_held = 0;
    find_record(table, tid)->keeper = KEPT_ENDLESS;
    long error = get_registers(tid, &registers);
    *argument_of(&registers, kind & WAIT_ARGUMENT) = kind & WAIT_BY_VALUE ? UINT64_MAX : 0;
    if (error < 0 || set_registers(tid, &registers) < 0) {
        drop_record(table, tid);
        return 0;
    }
    go_to_exit(fastpath, tid);
    return 1;
}

/* When there is no stop to be handled: on to the next deadline, if all are at rest. */
static long look_around(struct fastpath *fastpath, struct engine *engine, uint64_t busy_ns, uint64_t busy_looks)
{
    struct due due;
    uint64_t step_ns;
    int is_at_rest = are_at_rest(engine);
    if (is_at_rest < 0)
        return ENGINE_PYTHON;
    if (!is_at_rest)
        return busy_ns > BUSY_NS && busy_looks > BUSY_LOOKS ? ENGINE_BUSY : ENGINE_STOP;
    long result = find_step(engine, &fastpath->waits, &due, &step_ns);
    return result == ENGINE_STOP ? make_steps(engine, &fastpath->waits, &due, step_ns) : result;
}

/* Who has waited or is held, or whose wait ends by the wall line, of which the record knows what holds while both lines go
 * equally far. */
static void tell_changed(struct engine *engine, const struct wait_table *table)
{
    struct sample **samples = (struct sample **)engine->samples;
    uint64_t *changed = (uint64_t *)engine->changed;
    engine->changed_count = 0;
    for (uint64_t i = 0; i < engine->count; i++) {
        const struct wait_record *wait = find_record(table, samples[i]->tid);
        int is_by_wall = wait && wait->keeper == KEPT_ENDLESS && wait->line != MONOTONIC_LINE;
        if (samples[i]->has_waited || samples[i]->is_held || is_by_wall)
            changed[engine->changed_count++] = i;
    }
}

__attribute__((visibility("default")))
long pass_deadlines(struct fastpath *fastpath, struct engine *engine)
{
    uint64_t since_ns = host_ns(), busy_since_ns = since_ns, busy_looks = 0, events = 0;
    long result = ENGINE_STOP;
    begin_news(fastpath);
    engine->passed_ns = engine->event_count = engine->has_stale_copies = 0;
    fastpath->engine = (uint64_t)engine;
    fastpath->patience_ns = 1;
    while (result == ENGINE_STOP) {
        long found = wait_for_news(fastpath);
        uint64_t now_ns = host_ns();
        if (found < 0)
            result = found;
        if (found != NOTHING || fastpath->entry_count || fastpath->failure_count || engine->has_stale_copies || now_ns - since_ns > LONG_NS)
            break;
        if (engine->event_count == events)
            result = look_around(fastpath, engine, now_ns - busy_since_ns, busy_looks++);
        fastpath->patience_ns = 1;
        if (engine->event_count != events) {
            events = engine->event_count;
            busy_since_ns = now_ns;
            busy_looks = 0;
            /* It is about to have a stop. */
            fastpath->patience_ns = engine->events[(events - 1) % ENGINE_EVENTS].tid ? PATIENCE_NS : 1;
        }
    }
    fastpath->engine = 0;
    tell_changed(engine, &fastpath->waits);
    return engine->result = result;
}
