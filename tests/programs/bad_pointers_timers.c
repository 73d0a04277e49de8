// run: start=1970-01-01T00:10:00Z monotonic=freeze on=static,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:10:00Z on=i386 args=flowing bare=never
// run: machine=aarch64 start=1970-01-01T00:10:00Z args=flowing bare=never
// run: start=2000-01-01T00:00:00Z rate=1 on=static args=flowing bare=never
// run: start=1970-01-01T00:10:00Z autojump=yes on=static args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=i386 args=bare bare=never
// run: machine=aarch64 start=2000-01-01T00:00:00Z waits=real args=bare bare=never
/* The pointers of calls about timers, in every state of a timer; and what a call leaves that has failed:
 * a timer that could not be read is not set, one whose old value could not be written is. */
#include "elapse.h"
#include "pointers.h"
#include <signal.h>
#include <sys/timerfd.h>

enum state { UNSET, RELATIVE, ABSOLUTE, PERIODIC, EXPIRED, EXPIRED_PERIODIC, DISARMED, STATES };
static const char *const state_names[] = {"an unset timer", "a timer", "an absolute timer", "a periodic timer",
                                          "an expired timer", "a periodic timer that expires", "a disarmed timer"};
enum { STATE_S = 1000, STATE_INTERVAL_S = 500, NEW_S = 2000, NEW_INTERVAL_S = 700 };

#define NAME(name_) #name_, __NR_##name_
struct call { const char *name; long number; int is_wide; };

/* A kind of timer, with its calls. */
static const struct kind {
    enum { POSIX, FD, ITIMER } type;
    struct call set[2], get[2];
    int new_at;    /* the argument of timer_settime and the like */
    long null_new; /* what that is as NULL */
} kinds[] = {
    {POSIX,
     {{NAME(timer_settime), 0},
#ifdef __NR_timer_settime64
      {NAME(timer_settime64), 1},
#endif
     },
     {{NAME(timer_gettime), 0},
#ifdef __NR_timer_gettime64
      {NAME(timer_gettime64), 1},
#endif
     },
     2, -EINVAL},
    {FD,
     {{NAME(timerfd_settime), 0},
#ifdef __NR_timerfd_settime64
      {NAME(timerfd_settime64), 1},
#endif
     },
     {{NAME(timerfd_gettime), 0},
#ifdef __NR_timerfd_gettime64
      {NAME(timerfd_gettime64), 1},
#endif
     },
     2, -EFAULT},
    {ITIMER, {{NAME(setitimer), 0}}, {{NAME(getitimer), 0}}, 1, 0},
};

/* The timer that is tried. */
static const struct kind *kind;
static int clock_id, notify; /* what it is made with */
static int handle = -1;      /* its number, its descriptor, or which of setitimer's */
static enum state state;
static union spec { int32_t narrow[4]; int64_t wide[4]; } new_spec;
static int new_is_bad;

static size_t size_of(const struct call *call)
{
    return call->is_wide || sizeof(long) == 8 ? sizeof(int64_t[4]) : sizeof(int32_t[4]);
}

static void fill_spec(union spec *spec, const struct call *call, int64_t interval_s, int64_t value_s, int64_t part)
{
    int64_t fields[] = {interval_s, 0, value_s, part};
    for (int i = 0; i < 4; i++)
        if (size_of(call) == sizeof spec->wide)
            spec->wide[i] = fields[i];
        else
            spec->narrow[i] = fields[i];
}

static int64_t field(const void *spec, const struct call *call, int i)
{
    union spec copy;
    memcpy(&copy, spec, size_of(call));
    return size_of(call) == sizeof copy.wide ? copy.wide[i] : copy.narrow[i];
}

static void set_timer(int64_t interval_s, int64_t value_s, int64_t part, int flags)
{
    const struct call *call = &kind->set[0];
    union spec spec;
    fill_spec(&spec, call, interval_s, value_s, part);
    if (kind->type == ITIMER)
        CHECK(syscall(call->number, handle, &spec, NULL) == 0);
    else
        CHECK(syscall(call->number, handle, flags, &spec, NULL) == 0);
}

static void make_timer(void)
{
    struct sigevent event = {.sigev_notify = notify, .sigev_signo = SIGUSR1};
    if (kind->type == FD) {
        close(handle);
        handle = timerfd_create(clock_id, TFD_NONBLOCK);
        CHECK(handle >= 0);
    } else if (kind->type == POSIX) {
        syscall(__NR_timer_delete, handle);
        CHECK(syscall(__NR_timer_create, clock_id, &event, &handle) == 0);
    } else {
        handle = clock_id;
        set_timer(0, 0, 0, 0);
    }
}

/* A new timer in the state that is tried. */
static void bring_about(void)
{
    make_timer();
    int64_t now_s = kind->type == ITIMER ? 0 : clock_ns(clock_id) / NSEC_PER_SEC;
    int is_itimer = kind->type == ITIMER;
    switch (state) {
    case RELATIVE: set_timer(0, STATE_S, 0, 0); break;
    case ABSOLUTE: set_timer(0, STATE_S + now_s, 0, is_itimer ? 0 : TIMER_ABSTIME); break;
    case PERIODIC: set_timer(STATE_INTERVAL_S, STATE_S, 0, 0); break;
    case EXPIRED: set_timer(0, 0, 1, TIMER_ABSTIME); break;
    case EXPIRED_PERIODIC: set_timer(STATE_INTERVAL_S, now_s, now_s == 0, TIMER_ABSTIME); break;
    case DISARMED:
        set_timer(STATE_INTERVAL_S, STATE_S, 0, 0);
        set_timer(0, 0, 0, 0);
        break;
    default: break;
    }
}

static void check_spec(const struct call *call, const void *spec, int is_new, const struct trial *trial, enum place place)
{
    int64_t interval_s = field(spec, call, 0), value_s = field(spec, call, 2) + (field(spec, call, 3) > 0);
    int64_t most_s = is_new ? NEW_S : state == RELATIVE || state == ABSOLUTE || state == PERIODIC ? STATE_S
                     : state == EXPIRED_PERIODIC ? STATE_INTERVAL_S : 0;
    int64_t expected_interval_s = is_new ? NEW_INTERVAL_S
                                  : state == PERIODIC || state == EXPIRED_PERIODIC ? STATE_INTERVAL_S : 0;
    if (interval_s != expected_interval_s)
        failed(trial, place, "the interval", interval_s, expected_interval_s);
    if ((state == EXPIRED || state == EXPIRED_PERIODIC) && !is_new && value_s <= 1 && course == BARE)
        return; /* the kernel has yet to see to it (common_timer_get, timerfd_get_remaining) */
    if (value_s > most_s + (most_s > 0) || value_s < most_s - most_s / 10 - (most_s > 0))
        failed(trial, place, "what is left", value_s, most_s);
}

static const struct call *current;
static const struct trial *current_trial;

static void check_timer(enum place place, int is_new)
{
    union spec spec;
    const struct call *call = &kind->get[0];
    CHECK(syscall(call->number, handle, &spec) == 0);
    check_spec(call, &spec, is_new, current_trial, place);
}

static void check_told(enum place place, long result, const void *at)
{
    if (result == 0 && place != NOWHERE)
        check_spec(current, at, 0, current_trial, place);
    check_timer(place, 0);
}

static void check_set(enum place place, long result, const void *at)
{
    (void)at;
    if (kind->type == ITIMER && place == NOWHERE) /* it is disarmed */
        return;
    check_timer(place, result == 0);
}

static void check_old(enum place place, long result, const void *at)
{
    if (result == 0 && place != NOWHERE)
        check_spec(current, at, 0, current_trial, place);
    check_timer(place, !new_is_bad);
}

static void try_trial(struct trial trial)
{
    current_trial = &trial;
    try_everywhere(&trial);
}

#define TRIAL(call_, ...)                                                                          \
    (struct trial){.name = (call_)->name, .number = (call_)->number, .null = -EFAULT, .fault = -EFAULT, \
                   .read_only = -EFAULT, __VA_ARGS__}

static void try_calls(const char *of)
{
    int at = kind->new_at;
    for (int i = 0; i < 2; i++) {
        const struct call *get = current = &kind->get[i], *set = &kind->set[i];
        size_t size = size_of(get);
        if (!get->name)
            continue;
        bring_about();
        try_trial(TRIAL(get, .first = &handle, .at = 1, .access = WRITES, .size = size, .state = of, .after = check_told));
        current = set;
        long new = (long)&new_spec;
        int has_bad = state == UNSET || state == PERIODIC;
        for (new_is_bad = 0; new_is_bad <= has_bad; new_is_bad++) {
            fill_spec(&new_spec, set, NEW_INTERVAL_S, NEW_S, new_is_bad ? -1 : 0);
            long good = new_is_bad ? -EINVAL : 0;
            struct trial trial = TRIAL(set, .first = &handle, .at = at, .size = size, .data = &new_spec, .state = of,
                                       .good = good, .null = kind->null_new, .before = bring_about, .after = check_set);
            try_trial(trial);
            if (has_bad) {
                trial.args[at + 1] = 1; /* what is old cannot be written either */
                trial.good = new_is_bad ? -EINVAL : -EFAULT;
                trial.after = NULL;
                if (kind->type == ITIMER)
                    trial.null = -EFAULT;
                try_trial(trial);
            }
            trial = TRIAL(set, .first = &handle, .at = at + 1, .access = WRITES, .size = size, .state = of, .good = good,
                          .null = good, .before = bring_about, .after = check_old);
            trial.args[at] = new;
            if (new_is_bad)
                trial.fault = trial.read_only = -EINVAL;
            try_trial(trial);
        }
    }
}

/* `is_brief`: in two of them. */
static void try_states(const struct kind *of, int id, int how, int is_brief)
{
    kind = of;
    clock_id = id;
    notify = how;
    handle = -1;
    for (state = UNSET; state < STATES; state++) {
        if (is_brief && state != RELATIVE && state != PERIODIC)
            continue;
        if (kind->type == ITIMER && (state == EXPIRED || state == EXPIRED_PERIODIC))
            continue; /* it does not expire at once */
        if (kind->type == POSIX && notify == SIGEV_NONE && state == DISARMED)
            continue; /* the kernel tells of it as if it were armed (common_timer_get, kernel/time/posix-timers.c) */
        try_calls(state_names[state]);
    }
    if (kind->type == FD)
        close(handle);
    else if (kind->type == POSIX)
        CHECK(syscall(__NR_timer_delete, handle) == 0);
    else
        set_timer(0, 0, 0, 0);
}

/* Timers that there are not. */
static void try_none(const struct kind *of, int id, long error)
{
    kind = of;
    int at = kind->new_at;
    for (int i = 0; i < 2 && kind->get[i].name; i++) {
        const struct call *get = &kind->get[i], *set = &kind->set[i];
        size_t size = size_of(get);
        fill_spec(&new_spec, set, NEW_INTERVAL_S, NEW_S, 0);
        try_trial(TRIAL(get, .args = {id}, .at = 1, .access = WRITES, .size = size, .state = "none", .good = error,
                        .null = error, .read_only = error, .fault = error));
        struct trial trial = TRIAL(set, .args = {id}, .at = at, .size = size, .data = &new_spec, .state = "none",
                                   .good = error, .null = kind->type == ITIMER ? error : kind->null_new);
        try_trial(trial);
        trial = TRIAL(set, .args = {id}, .at = at + 1, .access = WRITES, .size = size, .state = "none", .good = error,
                      .null = error, .read_only = error, .fault = error);
        trial.args[at] = (long)&new_spec;
        try_trial(trial);
    }
}

static int count_timers(void)
{
    static char text[65536];
    int fd = open("/proc/self/timers", O_RDONLY), count = 0;
    if (fd < 0)
        return -1; /* without CONFIG_CHECKPOINT_RESTORE */
    ssize_t size = read(fd, text, sizeof text - 1);
    CHECK(size >= 0 && close(fd) == 0);
    text[size] = 0;
    for (char *at = text; (at = strstr(at, "ID:")); at++)
        count++;
    return count;
}

static int created, timers_before;
static int *created_at;

static void before_creation(void)
{
    timers_before = count_timers();
}

static void after_creation(enum place place, long result, const void *at)
{
    if (result == 0) {
        memcpy(&created, current_trial->at == 2 ? at : created_at, sizeof created);
        CHECK(syscall(__NR_timer_delete, created) == 0);
    }
    if (count_timers() != timers_before)
        failed(current_trial, place, "the number of timers", count_timers(), timers_before);
}

static void try_creation(int id, long error)
{
    static const struct call create = {NAME(timer_create), 0};
    static int own;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct sigevent bad = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
    created_at = &own;
    size_t size = sizeof(long) == 8 ? 64 : 16; /* get_compat_sigevent reads no more */
    try_trial(TRIAL(&create, .args = {id, 0, (long)&own}, .at = 1, .size = size, .data = &event, .good = error,
                    .null = error, .before = before_creation, .after = after_creation));
    try_trial(TRIAL(&create, .args = {id, 0, 1}, .at = 1, .size = size, .data = &event, .state = "no clock",
                    .good = error ? error : -EFAULT, .null = error ? error : -EFAULT, .before = before_creation,
                    .after = after_creation));
    for (int has_event = 0; has_event < 2; has_event++)
        try_trial(TRIAL(&create, .args = {id, has_event ? (long)&event : 0}, .at = 2, .access = WRITES,
                        .size = sizeof(int), .good = error, .null = error ? error : -EFAULT,
                        .read_only = error ? error : -EFAULT, .fault = error ? error : -EFAULT,
                        .before = before_creation, .after = after_creation));
    try_trial(TRIAL(&create, .args = {id, (long)&bad}, .at = 2, .access = WRITES, .size = sizeof(int), .state = "a bad event",
                    .good = -EINVAL, .null = -EINVAL, .read_only = -EINVAL, .fault = -EINVAL, .before = before_creation,
                    .after = after_creation));
}

/* The number is told where the event stood, which has been read by then. */
static void create_in_place(int id)
{
    union { struct sigevent event; int number; } both = {
        .event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 4711}};
    const struct itimerspec past = {.it_value = {0, 1}};
    const struct timespec second = {1, 0}, none = {0, 0};
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    while (sigtimedwait(&set, NULL, &none) > 0) /* of timers that have been deleted, perhaps (timer_delete(2)) */
        ;
    CHECK(syscall(__NR_timer_create, id, &both, &both) == 0);
    CHECK(timer_settime((timer_t)(intptr_t)both.number, TIMER_ABSTIME, &past, NULL) == 0);
    CHECK(sigtimedwait(&set, &info, &second) == SIGUSR1);
    CHECK_EQUAL(info.si_value.sival_int, 4711);
    CHECK(syscall(__NR_timer_delete, both.number) == 0);
}

/* What was set although it failed expires; what was disarmed so does not. */
static void expire(const struct kind *of, int id)
{
    kind = of;
    clock_id = id;
    notify = SIGEV_SIGNAL;
    handle = -1;
    for (int is_to_expire = 0; is_to_expire < 2; is_to_expire++) {
        const struct call *call = &kind->set[0];
        struct timespec none = {0, 0};
        uint64_t count = 0;
        union spec spec;
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, kind->type == ITIMER ? SIGALRM : SIGUSR1);
        make_timer();
        fill_spec(&spec, call, 0, length_ns / NSEC_PER_SEC,
                  length_ns % NSEC_PER_SEC / (kind->type == ITIMER ? 1000 : 1));
        if (!is_to_expire) {
            if (kind->type == ITIMER)
                CHECK(syscall(call->number, handle, &spec, NULL) == 0);
            else
                CHECK(syscall(call->number, handle, 0, &spec, NULL) == 0);
            fill_spec(&spec, call, 0, 0, 0);
        }
        if (kind->type == ITIMER)
            CHECK(syscall(call->number, handle, &spec, memory.read_only) == -1 && errno == EFAULT);
        else
            CHECK(syscall(call->number, handle, 0, &spec, memory.read_only) == -1 && errno == EFAULT);
        elapse_past(length_ns + (course == BARE ? length_ns : 0));
        if (kind->type == FD)
            CHECK_EQUAL(read(handle, &count, sizeof count) == sizeof count ? (int)count : -1, is_to_expire ? 1 : -1);
        else
            CHECK_EQUAL(sigtimedwait(&set, NULL, &none) > 0, is_to_expire);
    }
    if (kind->type == FD)
        close(handle);
}

int main(int argc, char **argv)
{
    static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID};
    const struct kind *posix = &kinds[0], *fd = &kinds[1], *itimer = &kinds[2];
    sigset_t set;
    (void)argc;
    read_course(argv, 20000000);
    map_memory();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    for (int i = 0; i < 5; i++) {
        try_states(posix, clocks[i], i % 2 ? SIGEV_SIGNAL : SIGEV_NONE, i != 1);
        if (i < 3)
            try_states(fd, clocks[i], 0, i > 0);
        try_creation(clocks[i], 0);
    }
    for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++)
        try_states(itimer, which, 0, which != ITIMER_REAL);
    try_creation(100, -EINVAL);
    try_none(posix, 4711, -EINVAL);
    try_none(posix, -1, -EINVAL);
    try_none(fd, 999, -EBADF);
    try_none(fd, -1, -EBADF);
    try_none(fd, 0, -EINVAL);
    try_none(itimer, 3, -EINVAL);
    try_none(itimer, -1, -EINVAL);
    CHECK(syscall(__NR_timer_getoverrun, 4711) == -1 && errno == EINVAL);
    CHECK(syscall(__NR_timer_delete, 4711) == -1 && errno == EINVAL);
    for (int i = 0; i < 3; i++) {
        create_in_place(clocks[i]);
        expire(posix, clocks[i]);
        expire(fd, clocks[i]);
    }
    expire(itimer, ITIMER_REAL);
    return all_were_right();
}
