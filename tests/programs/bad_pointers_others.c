// run: start=1970-01-01T00:00:01Z on=static,i386 bare=passes
// run: start=2000-01-01T00:00:00Z rate=1 on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z autojump=yes on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=static,i386 bare=never
/* The pointers of calls about the timeouts of sockets, and of those that the tracer of a process looks at
 * for its own sake. */
#include "pointers.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#define LONG_ sizeof(long)
#define ADDRESS(x) ((long)(x))
#define TRIAL(name_, ...)                                                                          \
    (struct trial){.name = #name_, .number = __NR_##name_, .null = -EFAULT, .fault = -EFAULT, \
                   .read_only = -EFAULT, __VA_ARGS__}

/* SO_RCVTIMEO and SO_SNDTIMEO, in both widths (asm-generic/socket.h) */
static const struct option { int number; size_t size; } options[] = {
    {20, 2 * LONG_}, {21, 2 * LONG_}, {66, 16}, {67, 16}};
static int sockets[2];
static const struct option *option;
static int64_t wide_time[2] = {7, 250000}, wide_zero[2];
static long narrow_time[2] = {7, 250000}, narrow_zero[2];
static int size_told;

static const void *time_of(int is_zero)
{
    if (option->size == 2 * LONG_)
        return is_zero ? narrow_zero : narrow_time;
    return is_zero ? wide_zero : wide_time;
}

static void clear_timeout(void)
{
    size_told = option->size;
    CHECK(syscall(__NR_setsockopt, sockets[0], SOL_SOCKET, option->number, time_of(1), option->size) == 0);
}

static void set_timeout(void)
{
    size_told = option->size;
    CHECK(syscall(__NR_setsockopt, sockets[0], SOL_SOCKET, option->number, time_of(0), option->size) == 0);
}

/* The kernel rounds it up to its ticks. */
static int has_timeout(void)
{
    int64_t told[2];
    int size = sizeof told;
    long narrow[2];
    CHECK(syscall(__NR_getsockopt, sockets[0], SOL_SOCKET, option->number, told, &size) == 0);
    memcpy(narrow, told, sizeof narrow);
    int64_t seconds = option->size == 2 * LONG_ ? narrow[0] : told[0];
    int64_t us = option->size == 2 * LONG_ ? narrow[1] : told[1];
    CHECK(seconds == 0 || (seconds == 7 && us >= 250000 && us <= 260000));
    return seconds == 7;
}

static void check_set(enum place place, long result, const void *at)
{
    (void)at;
    if (has_timeout() != (result == 0)) {
        dprintf(2, "option %d in %s: set is %d\n", option->number, place_names[place], has_timeout());
        failures++;
    }
}

static void check_still_set(enum place place, long result, const void *at)
{
    (void)result, (void)at;
    if (!has_timeout()) {
        dprintf(2, "option %d told in %s: it is gone\n", option->number, place_names[place]);
        failures++;
    }
}

#ifdef __NR_socketcall
enum { SETSOCKOPT = 14, GETSOCKOPT = 15 };
static unsigned long arguments[5];

static void try_socketcall(void)
{
    struct trial trial = TRIAL(socketcall, .args = {SETSOCKOPT}, .at = 1, .size = sizeof arguments, .data = arguments,
                               .before = clear_timeout, .after = check_set);
    unsigned long set[] = {sockets[0], SOL_SOCKET, option->number, ADDRESS(time_of(0)), option->size};
    memcpy(arguments, set, sizeof set);
    try_everywhere(&trial);
    arguments[3] = 1;
    trial.good = -EFAULT;
    try_everywhere(&trial);
    static int64_t told[2];
    unsigned long get[] = {sockets[0], SOL_SOCKET, option->number, ADDRESS(told), ADDRESS(&size_told)};
    memcpy(arguments, get, sizeof get);
    trial = TRIAL(socketcall, .args = {GETSOCKOPT}, .at = 1, .size = sizeof arguments, .data = arguments,
                  .before = set_timeout, .after = check_still_set);
    try_everywhere(&trial);
    arguments[4] = 1;
    trial.good = -EFAULT;
    try_everywhere(&trial);
}
#endif

static void try_sockets(void)
{
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets) == 0);
    for (unsigned i = 0; i < sizeof options / sizeof *options; i++) {
        option = &options[i];
        struct trial trial = TRIAL(setsockopt, .args = {sockets[0], SOL_SOCKET, option->number}, .at = 3,
                                   .size = option->size, .data = time_of(0), .before = clear_timeout, .after = check_set);
        trial.args[4] = option->size;
        try_everywhere(&trial);
        struct trial small = trial;
        small.args[4] = option->size - 1;
        small.size = sizeof(int); /* which is read of each option first (sk_setsockopt, net/core/sock.c) */
        small.good = -EINVAL;
        small.state = "a size that is too small";
        try_everywhere(&small);
        trial.args[0] = 999;
        trial.good = trial.null = trial.fault = -EBADF;
        trial.state = "no descriptor";
        try_everywhere(&trial);
        static int64_t told[2];
        trial = TRIAL(getsockopt, .args = {sockets[0], SOL_SOCKET, option->number, 0, ADDRESS(&size_told)}, .at = 3,
                      .access = WRITES, .size = option->size, .before = set_timeout, .after = check_still_set);
        try_everywhere(&trial);
        int size = option->size;
        trial.args[3] = ADDRESS(told);
        trial.at = 4;
        trial.access = READS_AND_WRITES;
        trial.size = sizeof size;
        trial.data = &size;
        try_everywhere(&trial);
#ifdef __NR_socketcall
        try_socketcall();
#endif
    }
    /* It is heeded after all that. */
    struct timeval time = {0, 50000};
    char byte;
    CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    CHECK(syscall(__NR_getsockopt, sockets[0], SOL_SOCKET, SO_RCVTIMEO, 1, &size_told) == -1 && errno == EFAULT);
    int64_t from_ns = clock_ns(CLOCK_MONOTONIC);
    CHECK(recv(sockets[0], &byte, 1, 0) == -1 && errno == EAGAIN);
    CHECK(clock_ns(CLOCK_MONOTONIC) - from_ns >= 50000000);
}

/* One that allows everything. */
static void try_filters(void)
{
    static struct sock_filter allow[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
    static struct sock_fprog program = {1, allow}, bad = {1, (void *)1}, empty = {0, allow};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    const struct { const struct sock_fprog *program; long result; } programs[] = {
        {&program, 0}, {&bad, -EFAULT}, {&empty, -EINVAL}};
    for (int i = 0; i < 3; i++) {
        TRY(CALL(prctl), .args = {PR_SET_SECCOMP, SECCOMP_MODE_FILTER}, .at = 2, .size = sizeof program,
            .data = programs[i].program, .good = programs[i].result);
        TRY(CALL(seccomp), .args = {SECCOMP_SET_MODE_FILTER, 0}, .at = 2, .size = sizeof program,
            .data = programs[i].program, .good = programs[i].result);
    }
    TRY(CALL(seccomp), .args = {SECCOMP_SET_MODE_FILTER, -1}, .at = 2, .size = sizeof program, .data = &program,
        .good = -EINVAL, .null = -EINVAL, .fault = -EINVAL);
}

/* The child ends at once, and is waited for. */
static void end_child(enum place place, long result, const void *at)
{
    (void)place, (void)at;
    if (result == 0)
        _exit(0);
    if (result > 0)
        check_child(result);
}

enum { UNTRACED = 0x00800000, PIDFD = 0x1000 };

static void try_clones(void)
{
    int child = LONG_ == 8 && __NR_clone == 56 ? 3 : 4; /* clone(2), "C library/kernel differences" */
    for (int flags = 0; flags <= UNTRACED; flags += UNTRACED) {
        /* What cannot be written there is not. */
        TRY(CALL(clone), .args = {flags | CLONE_PARENT_SETTID | SIGCHLD}, .at = 2, .access = WRITES,
            .size = sizeof(int), .good = ANY, .null = ANY, .read_only = ANY, .fault = ANY, .after = end_child);
        TRY(CALL(clone), .args = {flags | CLONE_CHILD_SETTID | SIGCHLD}, .at = child, .access = WRITES,
            .size = sizeof(int), .good = ANY, .null = ANY, .read_only = ANY, .fault = ANY, .after = end_child);
        TRY(CALL(clone), .args = {flags | PIDFD | SIGCHLD}, .at = 2, .access = WRITES, .size = sizeof(int), .good = ANY,
            .after = end_child);
        struct { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack[2], tls; } how = {
            .flags = flags, .exit_signal = SIGCHLD};
        TRY(CALL(clone3), .args = {0, sizeof how}, .at = 0, .size = sizeof how, .data = &how, .good = ANY,
            .after = end_child);
        how.flags |= CLONE_PARENT_SETTID;
        how.parent_tid = 1;
        TRY(CALL(clone3), .args = {0, sizeof how}, .at = 0, .size = sizeof how, .data = &how, .good = ANY,
            .after = end_child);
        how.flags = flags | PIDFD;
        how.pidfd = 1;
        TRY(CALL(clone3), .args = {0, sizeof how}, .at = 0, .size = sizeof how, .data = &how, .good = -EFAULT,
            .after = end_child);
        how.flags = flags;
        TRY(CALL(clone3), .args = {0, sizeof how - 1}, .at = 0, .size = sizeof how, .data = &how, .good = -EINVAL,
            .null = -EINVAL, .fault = -EINVAL, .state = "a size that is too small");
    }
}

static void try_connections(void)
{
    static const struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_port = 0x0900, .sin_addr.s_addr = 0x0100007f};
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(datagrams >= 0);
    TRY(CALL(connect), .args = {datagrams, 0, sizeof loopback}, .at = 1, .size = sizeof loopback, .data = &loopback);
    TRY(CALL(connect), .args = {-1, 0, sizeof loopback}, .at = 1, .size = sizeof loopback, .data = &loopback,
        .good = -EBADF, .null = -EBADF, .fault = -EBADF, .read_only = -EBADF);
    close(datagrams);
}

static void try_signals(void)
{
    static const uint64_t set = 1 << (SIGWINCH - 1); /* which is ignored, and not blocked */
    TRY(CALL(rt_sigpending), .args = {0, sizeof set}, .at = 0, .access = WRITES, .size = sizeof set);
    TRY(CALL(signalfd4), .args = {-1, 0, sizeof set}, .at = 1, .size = sizeof set, .data = &set, .good = ANY_HANDLE);
#ifdef __NR_signalfd
    TRY(CALL(signalfd), .args = {-1, 0, sizeof set}, .at = 1, .size = sizeof set, .data = &set, .good = ANY_HANDLE);
#endif
}

static void try_others(void)
{
    static char parameters[120];
    /* Of a process that is not traced by the caller. */
    TRY(CALL(ptrace), .args = {PTRACE_GETREGSET, getpid(), 1}, .at = 3, .access = READS_AND_WRITES,
        .size = 2 * LONG_, .data = parameters, .good = -ESRCH, .null = -ESRCH, .read_only = -ESRCH, .fault = -ESRCH);
    /* On a clock that waits follow there is none, nor where containers forbid it. */
    long result = syscall(__NR_io_uring_setup, 1, parameters);
    if (result == -1 && (errno == ENOSYS || errno == EPERM)) {
        TRY(CALL(io_uring_setup), .args = {1}, .at = 1, .access = READS_AND_WRITES, .size = sizeof parameters,
            .data = parameters, .good = -errno, .null = -errno, .read_only = -errno, .fault = -errno);
        return;
    }
    CHECK(result >= 0 && close(result) == 0);
    memset(parameters, 0, sizeof parameters);
    TRY(CALL(io_uring_setup), .args = {1}, .at = 1, .access = READS_AND_WRITES, .size = sizeof parameters,
        .data = parameters, .good = ANY_HANDLE);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 3 && argv[2]);
    map_memory();
    try_sockets();
    try_clones();
    try_connections();
    try_signals();
    try_others();
    try_filters();
    return all_were_right();
}
