// run: monotonic=freeze on=static,dynamic,i386 as=root args=frozen bare-args=bare bare=passes
// run: on=static,i386 as=root args=flowing bare=never
// run: start=2000-01-01T00:00:00Z rate=1 on=static,dynamic,i386 as=root args=flowing bare=never
// run: start=2000-01-01T00:00:00Z rate=3600 monotonic=rate on=static,i386 as=root args=fast bare=never
// run: autojump=yes on=static,i386 as=root args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=static,i386 as=root args=bare bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=static as=root args=bare,advanced bare=never
// run: rate=1 on=static as=root args=flowing native=no bare=never
/* In a time namespace (time_namespaces(7)), however a program has come there, each monotonic clock is
 * ahead by its offset, by the vDSO, by system calls and in sysinfo(2), the wall clock by nothing; and
 * what waits until a point of a clock lasts as long as it says. Outside of it all is as before.
 *
 * The first process stays outside, and reads the clocks before and after one inside has. */
#include "elapse.h"
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/times.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
enum { MEMORY = 90, REQUESTS, ANSWERS, HELD }; /* descriptors that an exec leaves open */
enum { FUTEX_WAIT_BITSET = 9, FUTEX_WAITV = 449, U32 = 2 };
enum { LATE_TICKS = 10000 };

static const int ids[] = {0, 1, 4, 5, 6, 7, 8, 9, 11};
enum { IDS = sizeof ids / sizeof *ids };

struct offsets { int64_t monotonic_ns, boottime_ns; };
static const struct offsets none, ahead = {1000500000000, 50000250000000}, behind = {-250000000, 777777000000001};

struct readings {
    int64_t libc_ns[IDS], raw_ns[IDS];
    long uptime, ticks;
};

static struct shared {
    char namespace[64]; /* that of the first process */
    struct readings outside;
    struct offsets offsets; /* for what is executed inside */
    int is_advanced; /* the clock was, before: its monotonic line is not the host's */
} *shared;

static struct readings read_all(void)
{
    struct readings all;
    struct sysinfo info;
    for (int i = 0; i < IDS; i++) {
        struct timespec ts = {0};
        if (clock_gettime(ids[i], &ts) == -1) /* a host without a clock for alarms */
            CHECK(errno == EINVAL && (ids[i] == 8 || ids[i] == 9));
        all.libc_ns[i] = in_ns(ts);
        CHECK((syscall(SYS_clock_gettime, ids[i], &ts) == 0) == (all.libc_ns[i] != 0));
        all.raw_ns[i] = in_ns(ts);
    }
    CHECK(sysinfo(&info) == 0);
    all.uptime = info.uptime;
    all.ticks = times(NULL);
    return all;
}

/* Has the first process do something for this one. */
static void request(char what)
{
    CHECK(write(REQUESTS, &what, 1) == 1);
    if (what == 'r')
        CHECK(read(ANSWERS, &what, 1) == 1);
}

static int64_t offset_of(int id, struct offsets offsets)
{
    if (id == 0 || id == 5 || id == 8 || id == 11)
        return 0;
    return id == 7 || id == 9 ? offsets.boottime_ns : offsets.monotonic_ns;
}

#define CHECK_BETWEEN(what, id, least, value, most)                                                \
    do {                                                                                           \
        long long least_ = (least), value_ = (value), most_ = (most);                              \
        if (value_ < least_ || value_ > most_) {                                                   \
            dprintf(2, "%s:%d: %s %d is %lld, not from %lld to %lld\n", __FILE__, __LINE__, what,  \
                    id, value_, least_, most_);                                                    \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void check_readings(struct offsets offsets)
{
    request('r');
    struct readings before = shared->outside, here = read_all();
    request('r');
    struct readings after = shared->outside;
    for (int i = 0; i < IDS; i++) {
        int id = ids[i];
        int64_t offset_ns = offset_of(id, offsets);
        /* The last tick of the coarse ones may be one of before. */
        int64_t late_ns = (id == 5 || id == 6) && !is_exact() ? 100 * NSEC_PER_SEC / (course == FAST ? 1 : 1000) : 0;
        if (!before.libc_ns[i])
            continue;
        CHECK_BETWEEN("clock", id, before.libc_ns[i] - late_ns, here.libc_ns[i] - offset_ns, after.raw_ns[i] + late_ns);
        CHECK_BETWEEN("raw clock", id, before.libc_ns[i] - late_ns, here.raw_ns[i] - offset_ns, after.raw_ns[i] + late_ns);
    }
    /* By ids[5], rounded up (do_sysinfo, kernel/sys.c). */
    int64_t uptime_ns = here.uptime * NSEC_PER_SEC - offsets.boottime_ns;
    CHECK_BETWEEN("uptime", 0, before.libc_ns[5], uptime_ns, after.libc_ns[5] + NSEC_PER_SEC);
    /* They count from no clock (times(2)), to some ticks on a busy machine. */
    CHECK_BETWEEN("times", 0, -LATE_TICKS, here.ticks - before.ticks, after.ticks - before.ticks + LATE_TICKS);
}

/* --- waits ------------------------------------------------------------------------------------ */

static int64_t from_ns;

/* Of a wait; returns its end by a clock. */
static struct timespec begin(int id)
{
    if (is_asked())
        request('a');
    from_ns = now_ns();
    return timespec_of(clock_ns(id) + length_ns);
}

static void end(void)
{
    CHECK_ELAPSED(now_ns() - from_ns, length_ns);
}

static void check_sleeps(void)
{
    static const int clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
    for (int i = 0; i < 3; i++) {
        struct timespec past = timespec_of(clock_ns(clocks[i]) - 1), point = begin(clocks[i]);
        if (past.tv_sec > 0)
            CHECK_EQUAL(clock_nanosleep(clocks[i], TIMER_ABSTIME, &past, NULL), 0);
        CHECK_EQUAL(clock_nanosleep(clocks[i], TIMER_ABSTIME, &point, NULL), 0);
        end();
    }
    struct timespec length = timespec_of(length_ns);
    begin(CLOCK_MONOTONIC);
    CHECK_EQUAL(clock_nanosleep(CLOCK_MONOTONIC, 0, &length, NULL), 0);
    end();
}

static void check_futexes(void)
{
    static struct { uint64_t value, address; uint32_t flags, reserved; } waiter;
    static uint32_t word;
    struct timespec point = begin(CLOCK_MONOTONIC);
    CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &point, NULL, -1) == -1 && errno == ETIMEDOUT);
    end();
    waiter.address = (uintptr_t)&word;
    waiter.flags = U32;
    CHECK(syscall(FUTEX_WAITV, &waiter, 0, 0, NULL, 0) == -1);
    if (errno == ENOSYS) /* before Linux 5.16 */
        return;
    point = begin(CLOCK_MONOTONIC);
    struct { int64_t sec, nsec; } wide = {point.tv_sec, point.tv_nsec};
    CHECK(syscall(FUTEX_WAITV, &waiter, 1, 0, &wide, CLOCK_MONOTONIC) == -1 && errno == ETIMEDOUT);
    end();
}

static void check_timerfd(int id)
{
    struct itimerspec spec = {{0}, begin(id)}, left;
    uint64_t count;
    int fd = timerfd_create(id, 0);
    CHECK(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
    CHECK(timerfd_gettime(fd, &left) == 0);
    if (course != BARE && !is_asked()) /* where it may have expired already */
        CHECK_LEFT(in_ns(left.it_value), length_ns, 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count);
    CHECK_EQUAL(count, 1);
    end();
    /* Of one that begins in the past. */
    spec.it_value = timespec_of(clock_ns(id) - NSEC_PER_SEC / 4);
    spec.it_interval.tv_nsec = NSEC_PER_SEC / 10;
    if (spec.it_value.tv_sec >= 0) {
        CHECK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
        CHECK(read(fd, &count, sizeof count) == sizeof count);
        CHECK(count >= 3);
        if (is_exact())
            CHECK_EQUAL(count, 3);
    }
    close(fd);
}

/* Of a timer that begins before the machine did, as by the kernel (do_timens_ktime_to_host). */
static void check_old_timerfd(int id, struct offsets offsets)
{
    struct itimerspec spec = {{100, 0}, {1, 0}};
    struct readings before, after;
    uint64_t count;
    int fd = timerfd_create(id, 0);
    request('r');
    before = shared->outside;
    CHECK(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count);
    request('r');
    after = shared->outside;
    for (int i = 0; i < IDS; i++) {
        int64_t first_ns = NSEC_PER_SEC - offset_of(id, offsets), period_ns = 100 * NSEC_PER_SEC;
        if (first_ns < 0)
            first_ns = 0;
        if (ids[i] == id)
            CHECK_BETWEEN("count by", id, 1 + (before.libc_ns[i] - first_ns) / period_ns, (int64_t)count,
                          1 + (after.libc_ns[i] - first_ns) / period_ns);
    }
    close(fd);
}

static void check_timer(int id)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec spec = {{0}, begin(id)}, left;
    timer_t timer;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(timer_create(id, &event, &timer) == 0);
    CHECK(timer_settime(timer, TIMER_ABSTIME, &spec, NULL) == 0);
    CHECK(timer_gettime(timer, &left) == 0);
    if (course != BARE && !is_asked())
        CHECK_LEFT(in_ns(left.it_value), length_ns, 0);
    CHECK_EQUAL(sigwaitinfo(&set, NULL), SIGUSR1);
    end();
    CHECK(timer_delete(timer) == 0);
}

static void check_timers(void)
{
    static const int clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
    for (int i = 0; i < 3; i++) {
        check_timerfd(clocks[i]);
        check_timer(clocks[i]);
    }
}

static void check_all(struct offsets offsets)
{
    check_readings(offsets);
    check_sleeps();
    check_futexes();
    check_timers();
    if (!shared->is_advanced) { /* where the kernel times it, which has not begun so early */
        check_old_timerfd(CLOCK_MONOTONIC, offsets);
        check_old_timerfd(CLOCK_BOOTTIME, offsets);
    }
    check_readings(offsets); /* the clock has moved */
}

/* --- ways in ------------------------------------------------------------------------------------ */

static void read_namespace(char *text)
{
    ssize_t size = readlink("/proc/self/ns/time", text, 63);
    CHECK(size > 0);
    text[size] = 0;
}

static int is_inside(void)
{
    char text[64];
    read_namespace(text);
    return strcmp(text, shared->namespace) != 0;
}

/* For those to come; returns 0 where one is inside already. */
static int set_offsets(struct offsets offsets)
{
    char text[128];
    int fd;
    int64_t ns[] = {offsets.monotonic_ns, offsets.boottime_ns};
    for (int i = 0; i < 2; i++) {
        int64_t sec = ns[i] / NSEC_PER_SEC - (ns[i] % NSEC_PER_SEC < 0);
        int size = snprintf(text, sizeof text, "%d %lld %lld\n", i ? CLOCK_BOOTTIME : CLOCK_MONOTONIC,
                            (long long)sec, (long long)(ns[i] - sec * NSEC_PER_SEC));
        CHECK((fd = open("/proc/self/timens_offsets", O_WRONLY)) >= 0);
        ssize_t written = write(fd, text, size);
        close(fd);
        if (written == -1 && errno == EACCES)
            return 0;
        CHECK(written == size);
    }
    shared->offsets = offsets;
    return 1;
}

/* Those to come will be in a namespace of their own. */
static void unshare_time(int flags, struct offsets offsets)
{
    CHECK(unshare(CLONE_NEWTIME | flags) == 0);
    CHECK(set_offsets(offsets));
}

static void exec_inside(char **argv, char *role)
{
    char *arguments[] = {argv[0], argv[1], argv[2], argv[3], role, NULL};
    execv(SELF, arguments);
    CHECK(!"exec");
}

static void by_fork(char **argv)
{
    unshare_time(0, ahead);
    check_readings(none);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(is_inside());
        check_all(ahead);
        if ((pid = fork()) == 0) {
            check_readings(ahead);
            exec_inside(argv, "reading");
        }
        check_child(pid);
        /* Into another one from there. */
        unshare_time(0, behind);
        check_readings(ahead);
        if ((pid = fork()) == 0) {
            check_all(behind);
            _exit(0);
        }
        check_child(pid);
        check_readings(ahead);
        _exit(0);
    }
    check_child(pid);
    check_readings(none);
}

/* Of its own, which kills what maps memory. */
static void by_fork_under_a_filter(char **argv)
{
#ifdef SYS_mmap2
    enum { MMAP = SYS_mmap2 };
#else
    enum { MMAP = SYS_mmap };
#endif
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MMAP, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    (void)argv;
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
    unshare_time(0, ahead);
    pid_t pid = fork();
    if (pid == 0) {
        check_readings(ahead);
        _exit(0);
    }
    check_child(pid);
    check_readings(none);
    if ((pid = fork()) == 0) { /* it is in force again */
        mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static void by_exec(char **argv)
{
    unshare_time(0, behind);
    exec_inside(argv, "waiting");
}

/* A child that shares the memory of its parent enters when it executes something; Linux 6.1 has none. */
static void by_vfork(char **argv)
{
    unshare_time(0, ahead);
    pid_t pid = vfork();
    if (pid == 0) {
        check_readings(none);
        exec_inside(argv, "reading");
    }
    if (pid == -1 && errno == EINVAL)
        return;
    check_child(pid);
    check_readings(none);
}

static void by_clone3(char **argv)
{
    struct clone_args args = {.flags = CLONE_NEWTIME, .exit_signal = SIGCHLD};
    unshare_time(0, ahead); /* the offsets of which a new one begins with */
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        CHECK(is_inside());
        check_readings(ahead);
        check_sleeps();
        exec_inside(argv, "reading");
    }
    check_child(pid);
}

/* As vfork(2): without a return, below which the child would write. */
static inline __attribute__((always_inline)) long clone3_here(const struct clone_args *args)
{
#if defined __x86_64__
    long result = SYS_clone3;
    __asm__ volatile("syscall" : "+a"(result) : "D"(args), "S"(sizeof *args) : "rcx", "r11", "memory");
    return result;
#elif defined __i386__
    long result = SYS_clone3;
    __asm__ volatile("int $0x80" : "+a"(result) : "b"(args), "c"(sizeof *args) : "memory");
    return result;
#else
    register long number __asm__("x8") = SYS_clone3, result __asm__("x0") = (long)args;
    register long size __asm__("x1") = sizeof *args;
    __asm__ volatile("svc #0" : "+r"(result) : "r"(number), "r"(size) : "memory");
    return result;
#endif
}

static void by_clone3_and_exec(char **argv)
{
    struct clone_args args = {.flags = CLONE_NEWTIME | CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD};
    pid_t pid = clone3_here(&args);
    if (pid == 0) {
        if (!set_offsets(behind)) /* by Linux 6.1 it enters at once */
            _exit(0);
        check_readings(none);
        exec_inside(argv, "reading");
    }
    check_child(pid);
    check_readings(none);
}

static void by_setns(char **argv)
{
    char path[64], byte;
    int pipe_fds[2], own = open("/proc/self/ns/time", O_RDONLY);
    CHECK(own >= 0 && pipe(pipe_fds) == 0);
    pid_t outsider = fork();
    if (outsider == 0) {
        unshare_time(0, ahead);
        pid_t holder = fork();
        if (holder == 0) {
            CHECK(read(pipe_fds[0], &byte, 1) == 1);
            check_readings(ahead);
            _exit(0);
        }
        CHECK(dprintf(HELD, "%d\n", holder) > 0);
        check_child(holder);
        _exit(0);
    }
    while (pread(HELD, path, 16, 0) <= 0)
        sched_yield();
    pid_t holder = atoi(path);
    snprintf(path, sizeof path, "/proc/%d/ns/time", holder);
    int other = open(path, O_RDONLY);
    CHECK(other >= 0);
    for (int i = 0; i < 2; i++) {
        CHECK(setns(other, CLONE_NEWTIME) == 0);
        CHECK(is_inside());
        check_readings(ahead);
        check_sleeps();
        pid_t pid = fork();
        if (pid == 0) {
            check_readings(ahead);
            CHECK(setns(own, CLONE_NEWTIME) == 0);
            check_readings(none);
            _exit(0);
        }
        check_child(pid);
        CHECK(setns(own, CLONE_NEWTIME) == 0);
        CHECK(!is_inside());
        check_readings(none);
    }
    check_sleeps();
    CHECK(write(pipe_fds[1], "", 1) == 1);
    check_child(outsider);
    CHECK(setns(other, CLONE_NEWTIME) == -1 || is_inside());
    shared->offsets = ahead;
    exec_inside(argv, "reading");
}

/* As containers are made. */
static void by_user(char **argv)
{
    unshare_time(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET, ahead);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQUAL(getpid(), 1);
        check_all(ahead);
        exec_inside(argv, "reading");
    }
    check_child(pid);
}

/* --- the first process -------------------------------------------------------------------------- */

static void serve(int requests, int answers)
{
    char what;
    while (read(requests, &what, 1) == 1) {
        if (what == 'a') {
            ask("ADVANCE", length_ns / NSEC_PER_SEC);
            continue;
        }
        shared->outside = read_all();
        CHECK(write(answers, "", 1) == 1);
    }
}

static void enter(char **argv, void (*way)(char **))
{
    int requests[2], answers[2], held = memfd_create("held", 0);
    CHECK(held >= 0 && pipe(requests) == 0 && pipe(answers) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(dup2(requests[1], REQUESTS) >= 0 && dup2(answers[0], ANSWERS) >= 0 && dup2(held, HELD) >= 0);
        close(requests[1]);
        close(answers[0]);
        way(argv);
        _exit(0);
    }
    close(requests[1]);
    close(answers[0]);
    close(held);
    serve(requests[0], answers[1]);
    check_child(pid);
    close(requests[0]);
    close(answers[1]);
}

int main(int argc, char **argv)
{
    static void (*const ways[])(char **) = {
        by_fork, by_fork_under_a_filter, by_exec, by_vfork, by_clone3, by_clone3_and_exec, by_setns, by_user,
    };
    read_course(argv, 20000000);
    int is_advanced = argc == 5 && strcmp(argv[4], "advanced") == 0;
    if (argc == 4 || is_advanced) {
        int fd = memfd_create("shared", 0);
        CHECK(fd >= 0 && ftruncate(fd, sizeof *shared) == 0 && dup2(fd, MEMORY) == MEMORY);
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, MEMORY, 0);
    CHECK(shared != MAP_FAILED);
    if (argc > 4 && !is_advanced) {
        /* By Linux 6.1 what executes something does not enter. */
        struct offsets offsets = is_inside() ? shared->offsets : none;
        (strcmp(argv[4], "waiting") == 0 ? check_all : check_readings)(offsets);
        return 0;
    }
    read_namespace(shared->namespace);
    shared->is_advanced = is_advanced;
    if (is_advanced)
        ask("ADVANCE", 3600);
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++)
        enter(argv, ways[i]);
    return success();
}
