/* Which tasks are blocked, and in what. */
#include "sample.h"

#include "tracer.h"

#define ENOENT 2
#define ESRCH 3
#define ENOMEM 12
#define ENFILE 23
#define EMFILE 24
#define BUFFER 512
#define CLONE_VFORK 0x4000 /* linux/sched.h; that of clone3(2) stands in memory */
#define CPUCLOCK_SCHED 2   /* linux/posix-timers.h */
#define UNKNOWN UINT64_MAX
#define MOST_FAILURES 100

static const char NAMES[SAMPLE_FILES][12] = {"/syscall", "/schedstat", "/stat", "/wchan"}; /* no pointers: they need a linker */

/* To read a file of /proc through a kept descriptor takes less than half of the time. */
static uint64_t kept_count, most_kept;

/* How many descriptors may be kept: what a user may open is left to the user. */
__attribute__((visibility("default")))
void keep_files(uint64_t most)
{
    most_kept = most;
}

static void forget_file(struct sample *sample, int file)
{
    if (sample->files[file]) {
        syscall1(NR_close, sample->files[file] - 1);
        __atomic_fetch_sub(&kept_count, 1, __ATOMIC_RELAXED); /* on any thread, as that of a test */
    }
    sample->files[file] = 0;
}

/* A task that has ended. */
__attribute__((visibility("default")))
void forget_files(struct sample *sample)
{
    for (int file = 0; file < SAMPLE_FILES; file++)
        forget_file(sample, file);
}

/* By its place among the threads of its process: /proc/TID/stat would add up the times of all of them. */
static long open_file(uint64_t tid, const char *name)
{
    char path[PROCESS_PATH + 16];
    char *end = put_number(put_text(path, "/proc/"), tid);
    end = put_number(put_text(end, "/task/"), tid);
    *put_text(end, name) = 0;
    return syscall4(NR_openat, AT_FDCWD, path, O_CLOEXEC, 0);
}

static long read_file(struct sample *sample, int file, char *buffer)
{
    long size = 0, fd;
    if (sample->files[file]) {
        size = syscall4(NR_pread64, sample->files[file] - 1, buffer, BUFFER - 1, 0);
        if (size <= 0)
            forget_file(sample, file); /* perhaps another task has its id now */
    }
    if (size <= 0) {
        fd = open_file(sample->tid, NAMES[file]);
        if (fd < 0)
            return fd;
        size = syscall4(NR_pread64, fd, buffer, BUFFER - 1, 0);
        if (size > 0 && kept_count < most_kept) {
            sample->files[file] = fd + 1;
            __atomic_fetch_add(&kept_count, 1, __ATOMIC_RELAXED);
        } else {
            syscall1(NR_close, fd);
        }
    }
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
uint64_t state_of(struct sample *sample)
{
    char buffer[BUFFER];
    const char *letter = 0;
    long size = read_file(sample, FILE_STAT, buffer);
    if (size < 0 && size != -ENOENT && size != -ESRCH)
        return 'R'; /* there is no descriptor to read it by: it is not known to be blocked */
    for (const char *at = buffer; size > 0 && *at; at++)
        if (at[0] == ')' && at[1] == ' ')
            letter = at + 2;
    return letter ? *letter : 'X';
}

/* How often it has been given a processor (Documentation/scheduler/sched-stats.rst). */
static uint64_t runs_of(struct sample *sample)
{
    char buffer[BUFFER];
    uint64_t values[3] = {0, 0, 0};
    const char *text = buffer;
    if (read_file(sample, FILE_SCHEDSTAT, buffer) <= 0)
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
    long size = read_file(sample, FILE_SYSCALL, buffer);
    if (size <= 0 && size != -ENFILE && size != -EMFILE && size != -ENOMEM)
        return; /* closed to an ordinary user, or gone */
    if (size <= 0 || *text == 'r') { /* without a descriptor it is not known to be blocked */
        sample->state = 'R';
        return;
    }
    text = number(text, &sample->nr);
    for (int i = 0; i < 6 && sample->nr != (uint64_t)-1; i++)
        text = number(text, &sample->arguments[i]);
    text = number(text, &sample->stack);
    number(text, &sample->counter);
}

static int begins_with(const char *text, const char *beginning)
{
    while (*beginning && *text == *beginning)
        text++, beginning++;
    return !*beginning;
}

/* Whether a task waits for a child of vfork(2). The number of the call says so, or, of one by which programs of another kind
 * make it, the function of the kernel that the task is in, where that is told. */
static int is_in_vfork(struct sample *sample)
{
    static const char names[2][20] = {"kernel_clone", "wait_for_vfork_done"};
    char buffer[BUFFER];
#ifdef NR_vfork
    if (sample->nr == NR_vfork)
        return 1;
#endif
    if ((sample->nr == NR_clone && sample->arguments[0] & CLONE_VFORK) || sample->nr == NR_clone3)
        return 1;
    return read_file(sample, FILE_WCHAN, buffer) > 0 && (begins_with(buffer, names[0]) || begins_with(buffer, names[1]));
}

static int is_blocked(struct sample *sample)
{
    switch (sample->state) {
    case 'S':
    case 'T': /* stopped by a signal */
    case 'Z':
    case 'X':
        return 1;
    case 'D': /* waits for a disk, or for such a child */
        return is_in_vfork(sample);
    }
    return 0;
}

/* The processor time of a process (clock_getcpuclockid(3)): what its threads have run, until they left their processors. */
static uint64_t worked_ns(uint64_t pid)
{
    struct timespec time;
    if (syscall2(NR_clock_gettime, (int)(~(uint32_t)pid << 3 | CPUCLOCK_SCHED), &time) < 0)
        return UNKNOWN;
    return time.sec * 1000000000ULL + time.nsec;
}

/* Since Linux 5.16 /proc/PID/wchan names a function of the kernel only of a task that is blocked, has left its processor and
 * is not being woken for another (get_wchan, kernel/sched/core.c): so what it has run is in the time of its process. */
static int wchan_failures = -1;

static int tells_wchan(void)
{
    struct { char system[65], node[65], release[65], version[65], machine[65], domain[65]; } name;
    uint64_t major = 0, minor = 0;
    if (wchan_failures < 0) {
        wchan_failures = MOST_FAILURES;
        if (syscall1(NR_uname, &name) == 0) {
            const char *dot = number(name.release, &major);
            number(*dot == '.' ? dot + 1 : dot, &minor);
            wchan_failures = major > 5 || (major == 5 && minor >= 16) ? 0 : MOST_FAILURES;
        }
    }
    return wchan_failures < MOST_FAILURES; /* without kallsyms, or without the right to see it, it is "0" */
}

static int has_left(struct sample *sample)
{
    char buffer[BUFFER];
    return read_file(sample, FILE_WCHAN, buffer) > 0 && buffer[0] != '0';
}

static void look_again(struct sample *sample)
{
    uint64_t was_running = sample->state == 'R', runs;
    sample->worked_ns = worked_ns(sample->pid);
    sample->state = state_of(sample);
    runs = runs_of(sample);
    sample->has_run = was_running || runs != sample->runs;
    sample->runs = runs;
    if (sample->has_run)
        see_call(sample); /* it may be in another */
    sample->is_busy = sample->has_run || !is_blocked(sample);
    sample->is_known = !sample->is_busy && sample->state != 'Z' && sample->state != 'X';
}

/* Looks at every task twice. One that is blocked both times and has not run in between was blocked all the time: so
 * if all are, there was a moment when they all were, the one between the two rounds. One file does not suffice. By
 * /proc/PID/stat one that is about to sleep, and is woken before it does, is in state S without ever leaving its processor; by
 * /proc/PID/syscall, which waits until it has, one is still blocked that is being woken for another processor (TASK_WAKING).
 * Returns how many were not blocked; with `is_brief` it ends at the first that has not come to sleep, and returns -1 less its
 * place: the first of all is the likeliest.
 *
 * Of one that was blocked at an earlier look one round suffices: it has been blocked ever since, or it has run. Those that the
 * engine holds are left out. */
__attribute__((visibility("default")))
long look(struct sample **samples, uint64_t count, uint64_t is_brief)
{
    long busy = 0;
    uint64_t pid = 0, worked = 0;
    if (is_brief && count > 1 && !samples[0]->is_held && state_of(samples[0]) == 't') /* it has a stop, which is yet to be handled */
        return -1;
    for (uint64_t i = 0; i < count; i++) {
        struct sample *sample = samples[i];
        sample->is_busy = sample->has_run = sample->is_new = 0;
        if (sample->is_known || sample->is_held)
            continue;
        sample->runs = runs_of(sample);
        sample->state = 0;
        see_call(sample);
        if (is_brief && sample->state == 'R')
            return -1 - (long)i;
    }
    int is_told = tells_wchan();
    for (uint64_t i = 0; i < count; i++) {
        struct sample *sample = samples[i];
        if (sample->is_held || sample->is_known)
            continue;
        look_again(sample);
        sample->is_new = 1;
        busy += sample->is_busy;
        if (is_brief && sample->is_busy && sample->state != 'S')
            return -1 - (long)i;
    }
    for (uint64_t i = 0; i < count && is_told; i++)
        if (samples[i]->is_known && !samples[i]->is_new)
            samples[i]->is_off = has_left(samples[i]);
    for (uint64_t i = 0; i < count; i++) {
        struct sample *sample = samples[i];
        if (sample->is_held || sample->is_new)
            continue;
        if (sample->pid != pid)
            worked = worked_ns(pid = sample->pid);
        int is_off = is_told && sample->is_off;
        if (is_off && worked != UNKNOWN && worked == sample->worked_ns)
            continue;
        if ((is_off || state_of(sample) == sample->state) && runs_of(sample) == sample->runs) {
            wchan_failures += is_told && !is_off;
            sample->worked_ns = worked;
            continue;
        }
        look_again(sample);
        busy += sample->is_busy;
        if (is_brief && sample->is_busy && sample->state != 'S')
            return -1 - (long)i;
    }
    return busy;
}
