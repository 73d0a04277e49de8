// run: start=1970-01-01T00:00:01Z on=static,i386 bare=passes
// run: start=1970-01-01T00:00:01Z monotonic=freeze on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z rate=1 on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z autojump=yes on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z rate=60 monotonic=rate on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=static,i386 bare=never
/* The pointers of calls that may wait, where they need not: what they wait for is there. */
#include "pointers.h"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>

#ifndef __NR_futex_wait
#define __NR_futex_wait 455 /* since Linux 6.7 */
#endif
#define LONG_ sizeof(long)
#define PAIR (2 * LONG_)
#define WIDE_PAIR 16
#define MASK 8
#define SIGINFO 128
#define EVENT 32 /* of io_getevents */
enum { WAIT = 0, LOCK_PI = 6, WAIT_BITSET = 9, WAIT_REQUEUE_PI = 11, LOCK_PI2 = 13, PRIVATE = 128, REALTIME = 256 };

/* Times in both widths: an hour, which nobody waits for, a point that is over, and none. */
static const long hour[] = {3600, 0}, over[] = {0, 1}, no_time[] = {0, 0}, odd[] = {1, -1};
static const int64_t wide_hour[] = {3600, 0}, wide_over[] = {0, 1}, wide_no_time[] = {0, 0}, wide_odd[] = {1, -1};
static const struct width { size_t pair; const void *hour, *over, *none, *odd; } narrow = {PAIR, hour, over, no_time, odd},
    wide = {WIDE_PAIR, wide_hour, wide_over, wide_no_time, wide_odd};

static const uint64_t no_signals;
static int pipe_fds[2], epoll_fd, datagrams[2], semaphore;
static mqd_t queue;
static aio_context_t context;
static uint32_t word;

#define ADDRESS(x) ((long)(x))
#define TRIAL(name_, ...)                                                                          \
    (struct trial){.name = #name_, .number = __NR_##name_, .null = -EFAULT, .fault = -EFAULT, \
                   .read_only = -EFAULT, __VA_ARGS__}
#define CALL_OF(name_) #name_, __NR_##name_

/* Whether what is left of its time is told where the time stood. */
static int writes_rest(const char *name)
{
    return strncmp(name, "ppoll", 5) == 0 || strncmp(name, "pselect6", 8) == 0 || strstr(name, "select");
}

/* Its time, where the call ends at once with `good`. */
static void try_time(struct trial trial, int at, const struct width *width, long good, long null)
{
    int is_added_up = strncmp(trial.name, "io_", 3) == 0; /* whatever it is */
    trial.at = at;
    if (writes_rest(trial.name)) { /* where it can */
        trial.access = READS_AND_WRITES;
        trial.read_only = good;
    }
    trial.size = width->pair;
    trial.good = good;
    trial.null = null;
    trial.data = width->hour;
    try_everywhere(&trial);
    trial.data = width->odd;
    trial.access = READS;
    trial.good = is_added_up ? good : -EINVAL;
    trial.state = "a time that is none";
    try_everywhere(&trial);
}

/* A call that finds another fault first, whatever its time. */
static void try_refused(struct trial trial, int at, const struct width *width, long error, const char *state)
{
    trial.at = at;
    trial.access = READS;
    trial.size = width->pair;
    trial.data = width->hour;
    trial.good = trial.null = trial.fault = trial.read_only = error;
    trial.state = state;
    try_everywhere(&trial);
}

/* What is passed by, wherever it leads. */
static void try_unused(struct trial trial, int at, size_t size, long result, int is_unchecked)
{
    trial.at = at;
    trial.access = WRITES;
    trial.size = size;
    trial.good = trial.null = trial.fault = trial.read_only = result;
    trial.state = "what it does not use";
    try_among(&trial, is_unchecked);
}

static void try_sleeps(void)
{
    static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI};
    for (int is_over = 0; is_over < 2; is_over++) {
        struct trial trial = TRIAL(nanosleep, .at = 0, .size = PAIR, .data = is_over ? no_time : odd, .good = is_over ? 0 : -EINVAL);
        try_everywhere(&trial);
    }
    try_unused(TRIAL(nanosleep, .args = {ADDRESS(no_time)}), 1, PAIR, 0, 1);
    for (int i = 0; i < 4; i++)
        for (int flags = 0; flags <= TIMER_ABSTIME; flags++) {
            TRY(CALL(clock_nanosleep), .args = {clocks[i], flags}, .at = 2, .size = PAIR, .data = flags ? over : no_time);
            TRY(CALL(clock_nanosleep), .args = {clocks[i], flags}, .at = 2, .size = PAIR, .data = odd, .good = -EINVAL);
            try_unused(TRIAL(clock_nanosleep, .args = {clocks[i], flags, ADDRESS(flags ? over : no_time)}), 3, PAIR, 0, 1);
#ifdef __NR_clock_nanosleep_time64
            TRY(CALL(clock_nanosleep_time64), .args = {clocks[i], flags}, .at = 2, .size = WIDE_PAIR,
                .data = flags ? wide_over : wide_no_time);
            TRY(CALL(clock_nanosleep_time64), .args = {clocks[i], flags}, .at = 2, .size = WIDE_PAIR, .data = wide_odd,
                .good = -EINVAL);
            try_unused(TRIAL(clock_nanosleep_time64, .args = {clocks[i], flags, ADDRESS(flags ? wide_over : wide_no_time)}),
                       3, WIDE_PAIR, 0, 1);
#endif
        }
    try_refused(TRIAL(clock_nanosleep, .args = {CLOCK_MONOTONIC_RAW}), 2, &narrow, -EOPNOTSUPP, "a clock not to sleep by");
    try_refused(TRIAL(clock_nanosleep, .args = {100}), 2, &narrow, -EINVAL, "no clock");
    TRY(CALL(clock_nanosleep), .args = {CLOCK_PROCESS_CPUTIME_ID}, .at = 2, .size = PAIR, .data = no_time);
}

static struct pollfd ready;
static unsigned char set[16];
static struct { const void *mask; unsigned long size; } block = {&no_signals, MASK}, bad_block = {(void *)1, MASK},
                                                        odd_block = {&no_signals, 3};

static long time_left[4]; /* where what is left can be told */
static const struct width *time_width = &narrow;

static void reset_sets(void)
{
    memcpy(time_left, time_width->hour, time_width->pair);
    memset(set, 0, sizeof set);
    set[pipe_fds[0] / 8] = 1 << pipe_fds[0] % 8;
    ready.revents = 0;
}

/* A call that fails before it begins to wait does not tell what is left. */
static void check_rest(enum place place, long result, const void *at)
{
    (void)at;
    if ((result == -EFAULT || result == -EINVAL) && memcmp(time_left, time_width->hour, time_width->pair) != 0) {
        dprintf(2, "what is left is told with a mask in %s\n", place_names[place]);
        failures++;
    }
}

static void try_polls_of(struct trial trial, const struct width *width)
{
    time_width = width;
    long fds = ADDRESS(&ready);
    trial.before = reset_sets;
    trial.args[1] = 1;
    trial.args[4] = MASK;
    trial.args[0] = fds;
    try_time(trial, 2, width, 1, 1);
    struct trial other = trial;
    other.at = 3;
    other.size = MASK;
    other.data = &no_signals;
    other.good = other.null = 1;
    other.args[2] = ADDRESS(time_left);
    other.after = check_rest;
    try_everywhere(&other);
    other.args[4] = 3;
    other.good = other.fault = -EINVAL;
    other.state = "another size of its mask";
    try_everywhere(&other);
    other = trial;
    other.at = 0;
    other.access = READS_AND_WRITES;
    other.size = sizeof ready;
    other.data = &ready;
    other.good = 1;
    other.args[2] = ADDRESS(width->hour);
    try_everywhere(&other);
    other.args[2] = ADDRESS(width->odd);
    other.good = other.read_only = other.fault = other.null = -EINVAL;
    other.state = "a time that is none";
    try_everywhere(&other);
}

static void try_polls(void)
{
    ready = (struct pollfd){pipe_fds[0], POLLIN, 0};
#ifdef __NR_poll
    TRY(CALL(poll), .args = {0, 1, 3600000}, .at = 0, .access = READS_AND_WRITES, .size = sizeof ready, .data = &ready,
        .good = 1);
    try_unused(TRIAL(poll, .args = {0, 0, 1}), 0, sizeof ready, 0, 0);
#endif
    try_polls_of(TRIAL(ppoll), &narrow);
#ifdef __NR_ppoll_time64
    try_polls_of(TRIAL(ppoll_time64), &wide);
#endif
}

/* Of as many descriptors as one word holds. */
static void try_sets(struct trial trial)
{
    trial.access = READS_AND_WRITES;
    trial.size = LONG_;
    trial.data = set;
    trial.before = reset_sets;
    trial.args[0] = pipe_fds[0] + 1;
    for (int at = 1; at <= 3; at++) {
        struct trial one = trial;
        one.at = at;
        one.args[1] = at == 1 ? 0 : ADDRESS(set); /* which has the descriptor that is ready */
        one.good = 1;
        one.null = 1;
        if (at == 1) {
            one.args[2] = 0;
            one.null = 0;
            one.args[4] = ADDRESS(no_time);
            if (strcmp(trial.name, "pselect6_time64") == 0)
                one.args[4] = ADDRESS(wide_no_time);
        }
        if (at == 2)
            one.data = set + 8; /* it cannot be written to */
        if (at == 3)
            one.data = set + 8;
        try_everywhere(&one);
    }
}

static void try_masks(struct trial trial, const struct width *width)
{
    time_width = width;
    trial.args[0] = pipe_fds[0] + 1;
    trial.args[1] = ADDRESS(set);
    trial.args[4] = ADDRESS(time_left);
    trial.before = reset_sets;
    trial.after = check_rest;
    trial.at = 5;
    trial.size = sizeof block;
    trial.data = &block;
    trial.good = trial.null = 1;
    try_everywhere(&trial);
    trial.data = &bad_block;
    trial.good = -EFAULT;
    try_everywhere(&trial);
    trial.data = &odd_block;
    trial.good = -EINVAL;
    try_everywhere(&trial);
    trial.args[4] = ADDRESS(width->odd);
    trial.data = &block;
    trial.null = -EINVAL;
    try_everywhere(&trial);
}

static void try_selects(void)
{
    struct trial trial;
    reset_sets();
#ifdef __NR_select
    trial = TRIAL(select, .args = {pipe_fds[0] + 1, ADDRESS(set)}, .before = reset_sets);
    try_time(trial, 4, &narrow, 1, 1);
    trial.args[4] = ADDRESS(hour);
    try_sets(trial);
#endif
#ifdef __NR_old_select
    static struct { unsigned long number; void *in, *out, *except; const void *timeout; } arguments;
    arguments.number = pipe_fds[0] + 1;
    arguments.in = set;
    arguments.timeout = hour;
    trial = TRIAL(old_select, .at = 0, .size = sizeof arguments, .data = &arguments, .good = 1, .before = reset_sets);
    try_everywhere(&trial);
    arguments.timeout = (void *)1;
    trial.good = -EFAULT;
    try_everywhere(&trial);
    arguments.timeout = hour;
    arguments.in = (void *)1;
    try_everywhere(&trial);
#endif
    trial = TRIAL(pselect6, .args = {pipe_fds[0] + 1, ADDRESS(set)}, .before = reset_sets);
    try_time(trial, 4, &narrow, 1, 1);
    trial.args[4] = ADDRESS(hour);
    try_sets(trial);
    try_masks(trial, &narrow);
#ifdef __NR_pselect6_time64
    trial = TRIAL(pselect6_time64, .args = {pipe_fds[0] + 1, ADDRESS(set)}, .before = reset_sets);
    try_time(trial, 4, &wide, 1, 1);
    trial.args[4] = ADDRESS(wide_hour);
    try_sets(trial);
    try_masks(trial, &wide);
#endif
}

static void try_epolls(void)
{
    static struct epoll_event events[4];
    struct trial trials[] = {
#ifdef __NR_epoll_wait
        TRIAL(epoll_wait, .args = {epoll_fd, ADDRESS(events), 4, 3600000}),
#endif
        TRIAL(epoll_pwait, .args = {epoll_fd, ADDRESS(events), 4, 3600000, 0, MASK}),
        TRIAL(epoll_pwait2, .args = {epoll_fd, ADDRESS(events), 4, ADDRESS(wide_hour), 0, MASK}),
    };
    for (unsigned i = 0; i < sizeof trials / sizeof *trials; i++) {
        struct trial trial = trials[i];
        trial.at = 1;
        trial.access = WRITES;
        trial.size = sizeof *events;
        trial.good = 1;
        trial.args[2] = 1;
        try_everywhere(&trial);
        try_refused((trial.args[2] = 0, trial), 1, &wide, -EINVAL, "no room");
        trial = trials[i];
        trial.args[0] = 999;
        trial.at = 1;
        trial.size = sizeof *events;
        trial.access = WRITES;
        trial.state = "no descriptor";
        trial.good = trial.read_only = trial.null = trial.fault = -EBADF;
        try_among(&trial, 0); /* of the kernel's memory older ones say that first */
        if (trials[i].number == __NR_epoll_pwait || trials[i].number == __NR_epoll_pwait2) {
            trial = trials[i];
            trial.at = 4;
            trial.access = READS;
            trial.size = MASK;
            trial.data = &no_signals;
            trial.good = trial.null = 1;
            try_everywhere(&trial);
            trial.args[5] = 3;
            trial.good = trial.fault = -EINVAL;
            try_everywhere(&trial);
        }
    }
    try_time(trials[sizeof trials / sizeof *trials - 1], 3, &wide, 1, 1);
}

/* A word that has another value, and locks that would never be had. */
static void try_futexes_of(struct trial trial, const struct width *width)
{
    static const uint32_t value = 7;
    static const int operations[] = {WAIT, WAIT_BITSET, WAIT_BITSET | REALTIME, WAIT_REQUEUE_PI};
    static uint32_t second;
    for (int i = 0; i < 4; i++) {
        struct trial one = trial;
        one.args[0] = ADDRESS(&value);
        one.args[1] = operations[i] | PRIVATE;
        one.args[4] = operations[i] == WAIT_REQUEUE_PI ? ADDRESS(&second) : 0;
        one.args[5] = -1;
        try_time(one, 3, width, -EAGAIN, -EAGAIN);
        one.at = 0;
        one.access = READS;
        one.size = sizeof value;
        one.data = &value;
        one.good = -EAGAIN;
        one.is_aligned = 1;
        one.args[3] = ADDRESS(width->hour);
        try_everywhere(&one);
        one.args[3] = ADDRESS(width->odd);
        one.good = one.fault = one.null = -EINVAL;
        try_everywhere(&one);
        one.args[3] = 1;
        one.good = one.fault = one.null = -EFAULT;
        try_everywhere(&one);
    }
    trial.args[0] = ADDRESS(&value);
    trial.args[1] = WAIT | REALTIME;
    try_time(trial, 3, width, -ENOSYS, -ENOSYS);
    word = gettid();
    trial.args[0] = ADDRESS(&word);
    for (int operation = LOCK_PI; operation <= LOCK_PI2; operation += LOCK_PI2 - LOCK_PI) {
        trial.args[1] = operation | PRIVATE;
        try_time(trial, 3, width, -EDEADLK, -EDEADLK);
    }
}

static void try_futexes(void)
{
    try_futexes_of(TRIAL(futex), &narrow);
#ifdef __NR_futex_time64
    try_futexes_of(TRIAL(futex_time64), &wide);
#endif
    static const uint32_t value = 7;
    static const int64_t far[] = {1 << 30, 0};
    enum { PRIVATE_32_BITS = 130 };
    struct trial trial;
    struct { uint64_t value, address; uint32_t flags, reserved; } waiter = {1, (uintptr_t)&value, PRIVATE_32_BITS, 0};
    trial = TRIAL(futex_waitv, .args = {ADDRESS(&waiter), 1, 0, 0, CLOCK_MONOTONIC});
    try_time(trial, 3, &wide, -EAGAIN, -EAGAIN);
    trial.args[2] = 1;
    try_refused(trial, 3, &wide, -EINVAL, "flags that are none");
    trial.args[2] = 0;
    trial.args[1] = 0;
    try_refused(trial, 3, &wide, -EINVAL, "no word");
    trial.args[1] = 1;
    trial.args[4] = CLOCK_BOOTTIME;
    trial.at = 3;
    trial.access = READS;
    trial.size = WIDE_PAIR;
    trial.data = far; /* with no time it would not look at its clock */
    trial.good = trial.fault = -EINVAL;
    trial.null = -EAGAIN;
    trial.state = "a clock that it does not take";
    try_everywhere(&trial);
    trial = TRIAL(futex_waitv, .args = {0, 1, 0, ADDRESS(wide_hour), CLOCK_MONOTONIC});
    trial.at = 0;
    trial.size = sizeof waiter;
    trial.data = &waiter;
    trial.good = -EAGAIN;
    trial.null = -EINVAL;
    try_everywhere(&trial);
    waiter.address = 4;
    trial.good = -EFAULT;
    try_everywhere(&trial);
    if (syscall(__NR_futex_wait, &word, 0, 0xffffffff, PRIVATE_32_BITS, NULL, CLOCK_MONOTONIC) == -1 && errno == ENOSYS)
        return;
    trial = TRIAL(futex_wait, .args = {ADDRESS(&value), 1, 0xffffffff, PRIVATE_32_BITS, 0, CLOCK_MONOTONIC});
    try_time(trial, 4, &wide, -EAGAIN, -EAGAIN);
    trial.args[3] = 1 << 20;
    try_refused(trial, 4, &wide, -EINVAL, "flags that are none");
    trial.args[3] = PRIVATE_32_BITS;
    trial.args[2] = 0;
    trial.at = 0;
    trial.size = sizeof value;
    trial.data = &value;
    trial.is_aligned = 1;
    trial.args[2] = 0xffffffff;
    trial.args[4] = ADDRESS(wide_hour);
    trial.good = -EAGAIN;
    try_everywhere(&trial);
}

static sigset_t awaited;

static void send_signal(void)
{
    CHECK(kill(getpid(), SIGUSR2) == 0);
}

/* It is gone where it could not be told of. */
static int keeps_signal;
static void take_signal(enum place place, long result, const void *at)
{
    struct timespec none = {0, 0};
    int taken = sigtimedwait(&awaited, NULL, &none);
    (void)at;
    if (taken != (keeps_signal && result < 0 ? SIGUSR2 : -1)) {
        dprintf(2, "a signal that is pending after rt_sigtimedwait with %s: %d\n", place_names[place], taken);
        failures++;
    }
}

static void try_signals_of(struct trial trial, const struct width *width)
{
    trial.args[0] = ADDRESS(&awaited);
    trial.args[3] = MASK;
    trial.before = send_signal;
    trial.after = take_signal;
    keeps_signal = 1;
    try_time(trial, 2, width, SIGUSR2, SIGUSR2);
    struct trial other = trial;
    other.args[3] = 3;
    try_refused(other, 2, width, -EINVAL, "another size of its set");
    other = trial;
    other.size = MASK;
    other.data = &awaited;
    other.good = SIGUSR2;
    other.args[2] = ADDRESS(width->hour);
    try_everywhere(&other);
    keeps_signal = 0;
    other = trial;
    other.at = 1;
    other.access = WRITES;
    other.size = SIGINFO;
    other.good = other.null = SIGUSR2;
    other.args[2] = ADDRESS(width->hour);
    try_everywhere(&other);
}

static void try_signals(void)
{
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &awaited, NULL) == 0);
    try_signals_of(TRIAL(rt_sigtimedwait), &narrow);
#ifdef __NR_rt_sigtimedwait_time64
    try_signals_of(TRIAL(rt_sigtimedwait_time64), &wide);
#endif
}

static void try_semaphores(void)
{
    static struct sembuf is_zero = {0, 0, 0};
    struct { struct trial trial; int operations, time; const struct width *width; } calls[] = {
#ifdef __NR_semtimedop
        {TRIAL(semtimedop, .args = {semaphore, ADDRESS(&is_zero), 1}), 1, 3, &narrow},
#endif
#ifdef __NR_semtimedop_time64
        {TRIAL(semtimedop_time64, .args = {semaphore, ADDRESS(&is_zero), 1}), 1, 3, &wide},
#endif
#ifdef __NR_ipc
        {TRIAL(ipc, .args = {4 /* SEMTIMEDOP */, semaphore, 1, 0, ADDRESS(&is_zero)}), 4, 5, &narrow},
#endif
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct trial trial = calls[i].trial;
        try_time(trial, calls[i].time, calls[i].width, 0, 0);
        trial.args[calls[i].time] = ADDRESS(calls[i].width->hour);
        trial.at = calls[i].operations;
        trial.size = sizeof is_zero;
        trial.data = &is_zero;
        try_everywhere(&trial);
        trial.args[calls[i].time] = 1;
        trial.good = -EFAULT;
        try_everywhere(&trial);
    }
#ifdef __NR_semop /* which the tracer follows on 64-bit Arm */
    TRY(CALL(semop), .args = {semaphore, 0, 1}, .at = 1, .size = sizeof is_zero, .data = &is_zero);
#endif
}

static char letter[16] = "fifteen letters";

static void empty_queue(void)
{
    char bytes[sizeof letter];
    while (mq_receive(queue, bytes, sizeof bytes, NULL) >= 0)
        ;
    CHECK(errno == EAGAIN);
}

static void fill_queue(void)
{
    empty_queue();
    CHECK(mq_send(queue, letter, sizeof letter, 3) == 0);
}

static int keeps_letter;

/* What could not be told of is lost. */
static void count_letters(enum place place, long result, const void *at)
{
    char bytes[sizeof letter];
    int is_left = mq_receive(queue, bytes, sizeof bytes, NULL) >= 0;
    (void)at;
    if (is_left != (result < 0 && keeps_letter)) {
        dprintf(2, "letters after mq_timedreceive with %s: %d\n", place_names[place], is_left);
        failures++;
    }
}

static void try_queues_of(struct trial send, struct trial receive, const struct width *width)
{
    send.before = empty_queue;
    send.args[0] = receive.args[0] = queue;
    send.args[1] = receive.args[1] = ADDRESS(letter);
    send.args[2] = receive.args[2] = sizeof letter;
    receive.before = fill_queue;
    receive.after = count_letters;
    keeps_letter = 1;
    try_time(send, 4, width, 0, 0);
    try_time(receive, 4, width, sizeof letter, sizeof letter);
    send.args[4] = receive.args[4] = ADDRESS(width->hour);
    send.at = receive.at = 1;
    send.size = receive.size = sizeof letter;
    send.data = letter;
    try_everywhere(&send);
    keeps_letter = 0;
    receive.access = WRITES;
    receive.good = sizeof letter;
    try_everywhere(&receive);
    receive.args[0] = 999;
    receive.good = receive.null = receive.fault = receive.read_only = -EBADF;
    receive.after = NULL;
    receive.state = "no queue";
    try_everywhere(&receive);
    receive.args[0] = queue;
    receive.state = NULL;
    receive.at = 3;
    receive.size = sizeof(int);
    receive.good = receive.null = sizeof letter;
    receive.fault = receive.read_only = -EFAULT;
    receive.after = count_letters;
    try_everywhere(&receive);
}

static void try_queues(void)
{
    try_queues_of(TRIAL(mq_timedsend), TRIAL(mq_timedreceive), &narrow);
#ifdef __NR_mq_timedsend_time64
    try_queues_of(TRIAL(mq_timedsend_time64), TRIAL(mq_timedreceive_time64), &wide);
#endif
}

static void submit(void)
{
    struct iocb poll = {.aio_lio_opcode = 5, .aio_fildes = pipe_fds[0], .aio_buf = POLLIN}, *all = &poll;
    CHECK(syscall(__NR_io_submit, context, 1, &all) == 1);
}

static void collect(enum place place, long result, const void *at)
{
    struct timespec none = {0, 0};
    char events[EVENT];
    (void)at;
    long count = syscall(__NR_io_getevents, context, 0, 1, events, sizeof(long) == 4 ? (void *)no_time : (void *)&none);
    if (count != (result < 0)) {
        dprintf(2, "events after io_getevents with %s: %ld\n", place_names[place], count);
        failures++;
    }
}

static void try_completions_of(struct trial trial, const struct width *width, int has_mask)
{
    static char events[EVENT];
    trial.before = submit;
    trial.after = collect;
    trial.args[0] = context;
    trial.args[1] = trial.args[2] = 1;
    trial.args[3] = ADDRESS(events);
    try_time(trial, 4, width, 1, 1);
    trial.args[4] = ADDRESS(width->hour);
    struct trial other = trial;
    other.at = 3;
    other.access = WRITES;
    other.size = EVENT;
    other.good = 1;
    try_everywhere(&other);
    other = trial;
    other.args[0] = 0; /* no context; a time that cannot be read is found first */
    other.before = NULL;
    other.after = NULL;
    other.at = 4;
    other.size = width->pair;
    other.data = width->hour;
    other.good = other.null = -EINVAL;
    other.state = "no context";
    try_everywhere(&other);
    if (!has_mask)
        return;
    other = trial;
    other.at = 5;
    other.size = sizeof block;
    other.data = &block;
    other.good = other.null = 1;
    try_everywhere(&other);
    other.data = &bad_block;
    other.good = -EFAULT;
    try_everywhere(&other);
}

static void try_completions(void)
{
    try_completions_of(TRIAL(io_getevents), &narrow, 0);
    try_completions_of(TRIAL(io_pgetevents), &narrow, 1);
#ifdef __NR_io_pgetevents_time64
    try_completions_of(TRIAL(io_pgetevents_time64), &wide, 1);
#endif
    CHECK(syscall(__NR_io_destroy, context) == 0);
}

static void send_datagram(void)
{
    char bytes[16];
    while (recv(datagrams[0], bytes, sizeof bytes, MSG_DONTWAIT) >= 0)
        ;
    CHECK(send(datagrams[1], letter, 4, 0) == 4);
}

static int keeps_datagram;

static void count_datagrams(enum place place, long result, const void *at)
{
    char bytes[16];
    int is_left = recv(datagrams[0], bytes, sizeof bytes, MSG_DONTWAIT) >= 0;
    (void)result, (void)at;
    if (is_left != (result < 0 && (!IS_READABLE(place) || keeps_datagram))) {
        dprintf(2, "datagrams after recvmmsg with %s: %d\n", place_names[place], is_left);
        failures++;
    }
}

static void try_datagrams_of(struct trial trial, const struct width *width)
{
    static struct mmsghdr message;
    static struct iovec vector;
    static char bytes[16];
    vector = (struct iovec){bytes, sizeof bytes};
    message.msg_hdr = (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1};
    trial.args[0] = datagrams[0];
    trial.args[1] = ADDRESS(&message);
    trial.args[2] = 1;
    trial.before = send_datagram;
    trial.after = count_datagrams;
    struct trial other = trial;
    other.at = 4;
    other.access = READS_AND_WRITES; /* what is left is told after a datagram */
    other.size = width->pair;
    other.data = width->hour;
    other.good = other.null = 1;
    try_everywhere(&other);
    keeps_datagram = 1;
    other.data = width->odd;
    other.access = READS;
    other.good = -EINVAL;
    other.state = "a time that is none";
    try_everywhere(&other);
    other = trial;
    other.at = 4;
    other.access = READS;
    other.size = width->pair;
    other.data = width->hour;
    other.args[0] = datagrams[1]; /* where none is */
    other.args[3] = MSG_DONTWAIT;
    other.good = other.null = -EAGAIN;
    other.state = "nothing to receive";
    try_everywhere(&other);
    other.args[0] = 999;
    other.good = other.null = -EBADF;
    other.state = "no descriptor";
    try_everywhere(&other);
    keeps_datagram = 0;
    static long time[4];
    memcpy(time, width->hour, width->pair);
    other = trial;
    other.args[4] = ADDRESS(time);
    other.at = 1;
    other.access = READS_AND_WRITES;
    other.size = offsetof(struct mmsghdr, msg_len) + sizeof message.msg_len; /* not what fills it up */
    other.after = NULL; /* with a part of it a datagram is received, or is not */
    other.data = &message;
    other.good = 1;
    try_everywhere(&other);
}

static void try_datagrams(void)
{
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
    try_datagrams_of(TRIAL(recvmmsg), &narrow);
#ifdef __NR_recvmmsg_time64
    try_datagrams_of(TRIAL(recvmmsg_time64), &wide);
#endif
}

int main(int argc, char **argv)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = sizeof letter};
    char name[40];
    CHECK(argc >= 3 && argv[2]);
    CHECK(syscall(__NR_io_setup, 4, &context) == 0); /* which maps memory of its own */
    map_memory();
    CHECK(pipe(pipe_fds) == 0 && write(pipe_fds[1], "", 1) == 1);
    epoll_fd = epoll_create1(0);
    CHECK(epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event) == 0);
    snprintf(name, sizeof name, "/vdsotime-p-%d", getpid());
    queue = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &attr);
    CHECK(queue != (mqd_t)-1 && mq_unlink(name) == 0);
    semaphore = semget(IPC_PRIVATE, 1, 0600);
    CHECK(semaphore >= 0);
    try_sleeps();
    try_polls();
    try_selects();
    try_epolls();
    try_futexes();
    try_signals();
    try_semaphores();
    try_queues();
    try_completions();
    try_datagrams();
    CHECK(semctl(semaphore, 0, IPC_RMID) == 0);
    return all_were_right();
}
