/* Which tasks are blocked, and in what. */
#include "sample.h"

#include "tracer.h"

#define O_CLOEXEC 02000000 /* asm-generic/fcntl.h */
#define BUFFER 512
#define CLONE_VFORK 0x4000 /* linux/sched.h; that of clone3(2) stands in memory */

/* By its place among the threads of its process: /proc/TID/stat would add up the times of all of them. */
static void thread_path(char *path, uint64_t tid, const char *name)
{
    path = put_number(put_text(path, "/proc/"), tid);
    path = put_number(put_text(path, "/task/"), tid);
    *put_text(path, name) = 0;
}

static long read_file(uint64_t tid, const char *name, char *buffer)
{
    char path[PROCESS_PATH];
    thread_path(path, tid, name);
    long fd = syscall4(NR_openat, AT_FDCWD, path, O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    long size = syscall4(NR_pread64, fd, buffer, BUFFER - 1, 0);
    syscall1(NR_close, fd);
    buffer[size > 0 ? size : 0] = 0;
    return size;
}

static const char *number(const char *text, uint64_t *value)
{
    int is_negative = *text == '-';
    text += is_negative;
    *value = 0;
    if (text[0] == '0' && text[1] == 'x')
        for (text += 2; *text > ' '; text++)
            *value = *value << 4 | (*text <= '9' ? *text - '0' : *text - 'a' + 10);
    else
        for (; *text >= '0' && *text <= '9'; text++)
            *value = *value * 10 + *text - '0';
    if (is_negative)
        *value = -*value;
    return *text == ' ' ? text + 1 : text;
}

/* The letter behind the command name, which stands in parentheses and may itself hold any; 'X' when it is gone. */
static uint64_t state_of(uint64_t tid)
{
    char buffer[BUFFER];
    const char *letter = 0;
    if (read_file(tid, "/stat", buffer) <= 0)
        return 'X';
    for (const char *at = buffer; *at; at++)
        if (at[0] == ')' && at[1] == ' ')
            letter = at + 2;
    return letter ? *letter : 'X';
}

/* How often it has been given a processor (Documentation/scheduler/sched-stats.rst). */
static uint64_t runs_of(uint64_t tid)
{
    char buffer[BUFFER];
    uint64_t values[3] = {0, 0, 0};
    const char *text = buffer;
    if (read_file(tid, "/schedstat", buffer) <= 0)
        return 0;
    for (int i = 0; i < 3; i++)
        text = number(text, &values[i]);
    return values[2];
}

/* /proc/PID/syscall (proc(5)): "running", or the call it is blocked in, or -1 where it is in none. */
static void see_call(struct sample *sample)
{
    char buffer[BUFFER];
    const char *text = buffer;
    sample->nr = -1;
    if (read_file(sample->tid, "/syscall", buffer) <= 0)
        return; /* closed to an ordinary user, or gone */
    if (*text == 'r') {
        sample->state = 'R';
        return;
    }
    text = number(text, &sample->nr);
    for (int i = 0; i < 6 && sample->nr != (uint64_t)-1; i++)
        text = number(text, &sample->arguments[i]);
    text = number(text, &sample->stack);
    number(text, &sample->counter);
}

static int is_blocked(const struct sample *sample)
{
    switch (sample->state) {
    case 'S':
    case 'T': /* stopped by a signal */
    case 'Z':
    case 'X':
        return 1;
    case 'D': /* waits for a disk, or for a child of vfork(2) */
#ifdef NR_vfork
        if (sample->nr == NR_vfork)
            return 1;
#endif
        return (sample->nr == NR_clone && sample->arguments[0] & CLONE_VFORK) || sample->nr == NR_clone3;
    }
    return 0;
}

/* Looks at every task twice. One that is blocked both times and has not run in between was blocked all the time: so
 * if all are, there was a moment when they all were, the one between the two rounds. What /proc/PID/stat says of a task
 * does not suffice the first time: one that is about to sleep, and is woken before it does, is in state S without ever
 * leaving its processor, whereas /proc/PID/syscall waits until it has. Returns how many were not blocked; with `is_brief` it
 * ends at the first that has not come to sleep, and returns -1 less its place: the first of all is the likeliest.
 *
 * One that was blocked at an earlier look and has not run since has been blocked ever since: one round suffices. */
__attribute__((visibility("default")))
long sample_tasks(struct sample *samples, uint64_t count, uint64_t is_brief)
{
    long busy = 0;
    if (is_brief && count > 1 && state_of(samples[0].tid) == 't') /* it has a stop, which is yet to be handled */
        return -1;
    for (uint64_t i = 0; i < count; i++) {
        if (samples[i].is_known)
            continue;
        samples[i].runs = runs_of(samples[i].tid);
        samples[i].state = 0;
        see_call(&samples[i]);
        if (is_brief && samples[i].state == 'R')
            return -1 - (long)i;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t was_running = samples[i].state == 'R' && !samples[i].is_known, runs;
        samples[i].state = state_of(samples[i].tid);
        runs = runs_of(samples[i].tid);
        samples[i].has_run = was_running || runs != samples[i].runs;
        samples[i].runs = runs;
        if (samples[i].has_run)
            see_call(&samples[i]); /* it may be in another */
        samples[i].is_busy = samples[i].has_run || !is_blocked(&samples[i]);
        samples[i].is_known = !samples[i].is_busy;
        busy += samples[i].is_busy;
        if (is_brief && samples[i].is_busy && samples[i].state != 'S')
            return -1 - (long)i;
    }
    return busy;
}
