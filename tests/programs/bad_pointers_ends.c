// run: start=1970-01-01T00:00:01Z monotonic=freeze on=static,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:01Z on=i386 args=flowing bare=never
// run: machine=aarch64 start=1970-01-01T00:00:01Z args=flowing bare=never
// run: start=1970-01-01T00:00:01Z autojump=yes on=static args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=static,i386 args=bare bare=never
/* Pointers of calls that wait, and are used when they end: when their time is up, when a handler interrupts
 * them or a stop does, and when they go on after a signal that is ignored. */
#include "elapse.h"
#include "pointers.h"
#include <linux/aio_abi.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>

#define LONG_ sizeof(long)
#define MASK 8
#define ADDRESS(x) ((long)(x))

enum fate { EXPIRES, HANDLED, IGNORED, STOPPED, FATES };
static const char *const fate_names[] = {"whose time is up", "with a handler", "with a signal that is ignored",
                                         "that is stopped"};

/* What the call returns with NULL, memory that cannot be used, that can only be read, and good memory. */
struct results { long null, fault, read_only, good; };

enum form { NARROW, WIDE, MICROSECONDS, MILLISECONDS };

struct subject {
    struct trial trial;
    int time_at;
    enum form form;
    struct results results[FATES];
    enum { NEVER, FAILING, ALWAYS } stops_end; /* whether a stop ends it, and SIGCONT does not begin it again */
    int has_beyond; /* the kernel's memory is a fault like others */
    int tells_rest; /* there, to who is interrupted */
};

/* What the process that waits finds. */
static struct {
    volatile int started, done;
    long result;
    int64_t started_ns, ended_ns;
    int has_touched, has_written; /* the memory around what it was given, and that */
} *scene;
static long timeout[4];

static void fill_time(const struct subject *subject, long *args)
{
    int64_t seconds = length_ns / NSEC_PER_SEC, ns = length_ns % NSEC_PER_SEC;
    if (subject->form == MILLISECONDS) {
        args[subject->time_at] = length_ns / 1000000;
        return;
    }
    if (subject->form == WIDE) {
        int64_t wide[] = {seconds, ns};
        memcpy(timeout, wide, sizeof wide);
    } else {
        timeout[0] = seconds;
        timeout[1] = subject->form == MICROSECONDS ? ns / 1000 : ns;
    }
    if (subject->time_at >= 0)
        args[subject->time_at] = ADDRESS(timeout);
}

static void on_signal(int number)
{
    (void)number;
}

static int takes_context(const struct trial *trial)
{
    return trial->number == __NR_io_getevents || trial->number == __NR_io_pgetevents;
}

/* In the process that waits. */
static void wait_there(const struct subject *subject, enum place place, enum fate fate)
{
    const struct trial *trial = &subject->trial;
    struct sigaction action = {.sa_handler = fate == IGNORED ? SIG_IGN : on_signal};
    aio_context_t context = 0;
    long args[6];
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    char *at = prepare(place, trial);
    memcpy(args, trial->args, sizeof args);
    if (takes_context(trial)) {
        CHECK(syscall(__NR_io_setup, 1, &context) == 0); /* which no two processes share */
        args[0] = context;
    }
    args[trial->at] = (long)at;
    scene->started_ns = now_ns();
    fill_time(subject, args);
    scene->started = 1;
    scene->result = call_trial(trial, args);
    scene->ended_ns = now_ns();
    scene->has_touched = !leaves_alone(trial, place, at);
    if (!trial->data && place >= WITHIN && place < FRESH)
        scene->has_written = !is_untouched(at, at + trial->size);
    scene->done = 1;
}

static long expected_of(const struct subject *subject, enum place place, enum fate fate)
{
    const struct results *results = &subject->results[fate];
    if (place == NOWHERE)
        return results->null;
    return IS_USABLE(place) ? results->good : IS_READABLE(place) ? results->read_only : results->fault;
}

static int ends_by_stop(const struct subject *subject, long expected)
{
    return subject->stops_end == ALWAYS || (subject->stops_end == FAILING && expected < 0);
}

/* False if a busy machine was too late. */
static int is_tried(const struct subject *subject, enum place place, enum fate fate)
{
    const struct trial *trial = &subject->trial;
    long expected = expected_of(subject, place, fate);
    int status, is_sooner = fate == HANDLED || (fate == STOPPED && ends_by_stop(subject, expected));
    memset(scene, 0, sizeof *scene);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        wait_there(subject, place, fate);
        _exit(0);
    }
    if (course == BARE) {
        wait_until_set(&scene->started);
        if (fate != EXPIRES)
            wait_for_state(pid, 'S');
    }
    elapse(part_ns);
    CHECK_NOT_YET(scene->done);
    if (fate == HANDLED || fate == IGNORED)
        CHECK(kill(pid, SIGUSR1) == 0);
    if (fate == STOPPED) {
        CHECK(kill(pid, SIGSTOP) == 0);
        CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
        if (!WIFSTOPPED(status))
            return 0;
        CHECK(kill(pid, SIGCONT) == 0);
    }
    int is_late = course == BARE && fate != EXPIRES && now_ns() - scene->started_ns >= length_ns;
    if (is_asked() && !is_sooner) {
        elapse(part_ns);
        if (scene->done)
            failed(trial, place, fate_names[fate], 1, 0);
        elapse(length_ns - 2 * part_ns);
        if (fate == STOPPED && trial->number == __NR_io_pgetevents) /* made again as it was, with all of its time */
            elapse(2 * part_ns);
    }
    check_child(pid);
    if (is_late)
        return 0;
    trials++;
    if (scene->result != expected)
        failed(trial, place, fate_names[fate], scene->result, expected);
    if (scene->has_touched)
        failed(trial, place, "the memory around", 1, 0);
    if (scene->has_written != (fate == HANDLED && expected == -EINTR && trial->at != 0 && subject->tells_rest)
        && fate != STOPPED && fate != IGNORED && place < FRESH && place >= WITHIN) /* who may tell it and go on */
        failed(trial, place, "what is written", scene->has_written, !scene->has_written);
    int64_t elapsed_ns = scene->ended_ns - scene->started_ns, least_ns = is_sooner ? part_ns : length_ns;
    if (elapsed_ns < least_ns - (course == BARE ? 1000000 : 0))
        failed(trial, place, "how long it took", elapsed_ns, least_ns);
    return 1;
}

static void try_subject(const struct subject *subject, enum place place, enum fate fate)
{
    int64_t bare_ns = fate == HANDLED ? 2 * NSEC_PER_SEC : fate == EXPIRES ? 8000000 : 20000000;
    do {
        set_bare_length(bare_ns);
        bare_ns *= 4;
    } while (!is_tried(subject, place, fate));
}

static int is_of_interest(const struct subject *subject, enum place place, enum fate fate)
{
    int is_readable = place != GROWING && IS_READABLE(place);
#ifdef __aarch64__ /* where the kernel hides which call an ignored signal has ended */
    if (fate == IGNORED && subject->stops_end == FAILING && (course == BARE || subject->trial.data))
        return 0;
#endif
    if (takes_context(&subject->trial)) /* which takes long to remove */
        return place == UNMAPPED || (place == LAST && fate == EXPIRES);
    switch (place) {
    case HIGHEST:
    case VSYSCALL:
    case NON_CANONICAL:
    case FRESH: return 0;
    case KERNEL:
        if (!subject->has_beyond)
            return 0;
        /* fall through */
    case ONE:
    case GUARDED:
    case BEYOND_FILE:
    case SHORT:
    case READ_ONLY_AGAIN:
    case WITHIN:
    case ACROSS:
        if (fate != EXPIRES)
            return 0; /* a few are enough */
        break;
    default: break;
    }
    return is_readable || !subject->trial.data; /* else it fails at its beginning */
}

#define TRIAL(name_, ...) {.name = #name_, .number = __NR_##name_, __VA_ARGS__}
#define ALL(x) {x, x, x, x}
#define INTERRUPTED(x) {ALL(x), ALL(-EINTR), ALL(x), ALL(-EINTR)}, ALWAYS
#define GOES_ON(x) {ALL(x), ALL(-EINTR), ALL(x), ALL(x)}, NEVER
/* What was left of it is told to who is interrupted. */
#define TELLS_REST {ALL(0), {-EINTR, -EFAULT, -EFAULT, -EINTR}, ALL(0), {0, -EFAULT, -EFAULT, 0}}, FAILING
/* What has happened is told in any case; the memory is never one that cannot be read. */
#define TELLS_EVENTS \
    {{0, 0, -EFAULT, 0}, {0, 0, -EFAULT, -EINTR}, {0, 0, -EFAULT, 0}, {0, 0, -EFAULT, 0}}, FAILING
#define TELLS_SETS {{0, 0, -EFAULT, 0}, {0, 0, -EINTR, -EINTR}, {0, 0, -EFAULT, 0}, {0, 0, -EFAULT, 0}}, NEVER

int main(int argc, char **argv)
{
    static struct pollfd never;
    static unsigned char none[2 * sizeof(long)], set[2 * sizeof(long)];
    static sigset_t awaited;
    static struct { unsigned long number; void *sets[3], *time; } old_select;
    struct epoll_event event = {.events = EPOLLIN};
    int pipe_fds[2], epoll_fd;
    (void)argc;
    read_course(argv, 20000000);
    map_memory();
    scene = shared_memory(sizeof *scene);
    CHECK(pipe(pipe_fds) == 0);
    CHECK(pipe_fds[0] < 32);
    never = (struct pollfd){pipe_fds[0], POLLIN, 0};
    set[pipe_fds[0] / 8] = 1 << pipe_fds[0] % 8;
    epoll_fd = epoll_create1(0);
    CHECK(epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event) == 0);
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &awaited, NULL) == 0);
    old_select.number = pipe_fds[0] + 1;
    old_select.time = timeout;
    int count = pipe_fds[0] + 1;

    const struct subject subjects[] = {
        {TRIAL(nanosleep, .at = 1, .access = WRITES, .size = 2 * LONG_), 0, NARROW, TELLS_REST, 1, 1},
        {TRIAL(clock_nanosleep, .args = {CLOCK_REALTIME}, .at = 3, .access = WRITES, .size = 2 * LONG_), 2, NARROW,
         TELLS_REST, 1, 1},
        {TRIAL(clock_nanosleep, .args = {CLOCK_MONOTONIC}, .at = 3, .access = WRITES, .size = 2 * LONG_), 2, NARROW,
         TELLS_REST, 1, 1},
#ifdef __NR_clock_nanosleep_time64
        {TRIAL(clock_nanosleep_time64, .args = {CLOCK_REALTIME}, .at = 3, .access = WRITES, .size = 16), 2, WIDE,
         TELLS_REST, 1, 1},
#endif
#ifdef __NR_poll
        {TRIAL(poll, .args = {0, 1}, .at = 0, .access = READS_AND_WRITES, .size = sizeof never, .data = &never), 2,
         MILLISECONDS, TELLS_EVENTS, 1, 0},
#endif
        {TRIAL(ppoll, .args = {0, 1, 0, 0, MASK}, .at = 0, .access = READS_AND_WRITES, .size = sizeof never,
               .data = &never), 2, NARROW, TELLS_EVENTS, 1, 0},
#ifdef __NR_ppoll_time64
        {TRIAL(ppoll_time64, .args = {0, 1, 0, 0, MASK}, .at = 0, .access = READS_AND_WRITES, .size = sizeof never,
               .data = &never), 2, WIDE, TELLS_EVENTS, 1, 0},
#endif
#ifdef __NR_select
        {TRIAL(select, .args = {count}, .at = 1, .access = READS_AND_WRITES, .size = LONG_, .data = set), 4,
         MICROSECONDS, TELLS_SETS, 1, 0},
        {TRIAL(select, .args = {count}, .at = 3, .access = READS_AND_WRITES, .size = LONG_, .data = set), 4,
         MICROSECONDS, TELLS_SETS, 1, 0},
#endif
        {TRIAL(pselect6, .args = {count}, .at = 1, .access = READS_AND_WRITES, .size = LONG_, .data = set), 4, NARROW,
         TELLS_SETS, 1, 0},
        {TRIAL(pselect6, .args = {count}, .at = 2, .access = READS_AND_WRITES, .size = LONG_, .data = none), 4, NARROW,
         TELLS_SETS, 1, 0},
#ifdef __NR_pselect6_time64
        {TRIAL(pselect6_time64, .args = {count}, .at = 3, .access = READS_AND_WRITES, .size = LONG_, .data = set), 4,
         WIDE, TELLS_SETS, 1, 0},
#endif
        {TRIAL(rt_sigtimedwait, .args = {ADDRESS(&awaited), 0, 0, MASK}, .at = 1, .access = WRITES, .size = 128), 2,
         NARROW, INTERRUPTED(-EAGAIN), 1, 0},
#ifdef __NR_epoll_wait
        {TRIAL(epoll_wait, .args = {epoll_fd, 0, 1}, .at = 1, .access = WRITES, .size = sizeof event), 3, MILLISECONDS,
         INTERRUPTED(0), 0, 0},
#endif
        {TRIAL(epoll_pwait, .args = {epoll_fd, 0, 1, 0, 0, MASK}, .at = 1, .access = WRITES, .size = sizeof event), 3,
         MILLISECONDS, INTERRUPTED(0), 0, 0},
        {TRIAL(epoll_pwait2, .args = {epoll_fd, 0, 1, 0, 0, MASK}, .at = 1, .access = WRITES, .size = sizeof event), 3,
         WIDE, INTERRUPTED(0), 0, 0},
        {TRIAL(io_getevents, .args = {0, 1, 1}, .at = 3, .access = WRITES, .size = 32), 4, NARROW, INTERRUPTED(0), 1, 0},
        {TRIAL(io_pgetevents, .args = {0, 1, 1}, .at = 3, .access = WRITES, .size = 32), 4, NARROW, GOES_ON(0), 1, 0},
    };
    for (unsigned i = 0; i < sizeof subjects / sizeof *subjects; i++)
        for (enum fate fate = EXPIRES; fate < FATES; fate++)
            for (enum place place = NOWHERE; place < PLACES; place++)
                if (is_of_interest(&subjects[i], place, fate))
                    try_subject(&subjects[i], place, fate);
    return all_were_right();
}
