// built: on=static,i386
/* Usage: storm SEED DEPTH. Does something that the seed decides, as do those that it starts, and ends with the status that the
 * seed says; with the depth -1 it waits for an hour or less. Whatever the clock does meanwhile: no clock goes back, no wait ends
 * early, no wake-up is lost or comes twice, every child ends as its own seed says. It is started with a page, see storm.h. */
#include "storm.h"
#include "storm_waits.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <spawn.h>
#include <stddef.h>

enum { CHILDREN = 2, ROUNDS = 5, BYTES = 20, READINGS = 10000, MOST = 50, STACK = 65536 };

static void start_children(long seed, int depth, int is_vfork)
{
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        children[i] = start(seed + i + 1, depth - 1, is_vfork);
    for (int i = 0; i < CHILDREN; i++)
        check_ended(children[i], seed + i + 1);
}

static void spawn_children(long seed, int depth)
{
    pid_t children[CHILDREN];
    extern char **environ;
    for (int i = 0; i < CHILDREN; i++) {
        struct command command;
        write_command(&command, seed + i + 1, depth - 1);
        CHECK_EQUAL(posix_spawn(&children[i], command.path, NULL, NULL, command.words, environ), 0);
    }
    for (int i = 0; i < CHILDREN; i++)
        check_ended(children[i], seed + i + 1);
}

/* Processes that share the memory of their parent, and its thread-local variables. */
static volatile int has_run[CHILDREN];

static int run_in_memory(void *argument)
{
    struct timespec start, end, length = {0, 300000 * (1 + (intptr_t)argument)};
    if (clock_gettime(CLOCK_MONOTONIC, &start) || syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &length, NULL))
        return 1;
    if (clock_gettime(CLOCK_MONOTONIC, &end) || (!is_visited && in_ns(end) - in_ns(start) < in_ns(length)))
        return 2;
    has_run[(intptr_t)argument] = 1;
    return 0;
}

static void share_memory(void)
{
    static char stacks[CHILDREN][STACK] __attribute__((aligned(64)));
    static const int flags[] = {0, CLONE_FILES, CLONE_FS | CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_IO, CLONE_VFORK};
    pid_t children[CHILDREN];
    for (intptr_t i = 0; i < CHILDREN; i++) {
        int more = flags[pick(sizeof flags / sizeof *flags)], ends_with = pick(2) ? SIGCHLD : 0;
        children[i] = clone(run_in_memory, stacks[i] + STACK, CLONE_VM | more | ends_with, (void *)i);
    }
    for (int i = 0; i < CHILDREN; i++) {
        check_child(children[i]);
        CHECK(has_run[i]);
    }
}

/* A process whose child is its own parent's. */
static void give_child_away(long seed, int depth)
{
    int ends[2];
    pid_t own = getpid(), child;
    CHECK(pipe(ends) == 0);
    pid_t giver = fork();
    CHECK(giver >= 0);
    if (giver == 0) {
        end_with(own);
        child = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        CHECK(child >= 0);
        if (child == 0) {
            end_with(own);
            execute(seed + 1, depth - 1);
        }
        CHECK(write(ends[1], &child, sizeof child) == sizeof child);
        _exit(0);
    }
    CHECK(read(ends[0], &child, sizeof child) == sizeof child);
    check_child(giver);
    check_ended(child, seed + 1);
}

static pid_t parent;
static int ends_with_parent;

static void *sleeper(void *argument)
{
    for (int i = 0; i < ROUNDS; i++)
        sleep_ns((int64_t)(uintptr_t)argument * 100000);
    return NULL;
}

static void *parker(void *argument)
{
    for (;;)
        park((unsigned)(uintptr_t)argument, HOUR_NS);
}

static void *executer(void *argument)
{
    sleep_ns(1000000);
    if (ends_with_parent) /* a thread does not by itself (PR_SET_PDEATHSIG, prctl(2)) */
        end_with(parent);
    execute((long)(intptr_t)argument, 0);
    return NULL;
}

static void run_threads(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, sleeper, (void *)(uintptr_t)(1 + pick(20))) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* The other threads end by it, and the program begins anew with the same seed. */
static void execute_from_thread(long seed)
{
    pthread_t threads[THREADS];
    for (int i = 1; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, pick(2) ? sleeper : parker, (void *)(uintptr_t)(1 + pick(20))) == 0);
    CHECK(pthread_create(&threads[0], NULL, executer, (void *)(intptr_t)seed) == 0);
    for (;;)
        pause();
}

static void stop_child(void)
{
    int status;
    pid_t own = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        end_with(own);
        raise(SIGSTOP);
        sleep_ns(1000000);
        _exit(7);
    }
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    sleep_ns(1 + pick(2000000));
    CHECK(kill(child, SIGCONT) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* From when it has executed: then it ends with its parent, stopped or not. */
static void stop_often(long seed)
{
    int ends[2];
    char byte;
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    pid_t child = start(seed + 1, 0, 0);
    CHECK(close(ends[1]) == 0 && read(ends[0], &byte, 1) == 0);
    for (unsigned left = 1 + pick(4); left; left--) {
        sleep_ns(1 + pick(1000000));
        CHECK(kill(child, SIGSTOP) == 0);
        sleep_ns(1 + pick(1000000));
        CHECK(kill(child, SIGCONT) == 0);
    }
    check_ended(child, seed + 1);
}

static void kill_child(long seed, int depth)
{
    pid_t child = start(seed + 1, depth - 1, 0);
    sleep_ns(1 + pick(3000000));
    CHECK(kill(child, SIGKILL) == 0);
    check_ended_or_killed(child, seed + 1);
}

/* It is killed within vfork and exec most of the time. */
static void kill_starter(long seed)
{
    pid_t own = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        end_with(own);
        for (int i = 1; i < MOST; i++) /* an hour may pass meanwhile */
            check_ended(start(seed + i, 0, i % 2), seed + i);
        pause();
    }
    sleep_ns(1 + pick(5000000));
    int status;
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void pass_bytes(void)
{
    int there[2], back[2];
    char byte = 'x';
    CHECK(pipe(there) == 0 && pipe(back) == 0);
    pid_t own = getpid(), child = fork();
    CHECK(child >= 0);
    if (!child)
        end_with(own);
    for (int i = 0; i < BYTES; i++) {
        int *from = child ? back : there, *to = child ? there : back;
        struct pollfd ready = {from[0], POLLIN, 0};
        if (child)
            CHECK(write(to[1], &byte, 1) == 1);
        while (poll(&ready, 1, 3600000) == 0)
            continue; /* hours may pass at any time */
        CHECK(read(from[0], &byte, 1) == 1);
        if (!child)
            CHECK(write(to[1], &byte, 1) == 1);
    }
    if (!child)
        _exit(0);
    check_child(child);
}

/* Filters of its own, which its children have too: one that refuses a call, one that allows all. */
static void filter(void)
{
    for (unsigned action = 0; action < 2; action++) {
        struct sock_filter code[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, action ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | EXDEV),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {sizeof code / sizeof *code, code};
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    }
    CHECK(syscall(SYS_acct, "/") == -1 && errno == EXDEV);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    long seed = atol(argv[1]);
    int depth = atoi(argv[2]);
    parent = getppid();
    CHECK(prctl(PR_GET_PDEATHSIG, &ends_with_parent) == 0);
    begin(argv[0], seed);
    now_ns();
    tell_lines();
    if (depth < 0)
        park(pick(PARKINGS), 1 + pick(3600) * (int64_t)NSEC_PER_SEC);
    int kind = depth > 0 ? (int)pick(21) : 19 + (int)pick(3);
    switch (kind) {
    case 0:
        start_children(seed, depth, 0);
        break;
    case 1:
        start_children(seed, depth, 1);
        break;
    case 2:
        spawn_children(seed, depth);
        break;
    case 3:
        filter();
        start_children(seed, depth, pick(2));
        break;
    case 4:
        share_memory();
        break;
    case 5:
        give_child_away(seed, depth);
        break;
    case 6:
        run_threads();
        break;
    case 7:
        execute_from_thread(seed);
        break;
    case 8:
        stop_child();
        break;
    case 9:
        stop_often(seed);
        break;
    case 10:
        kill_child(seed, depth);
        break;
    case 11:
        kill_starter(seed);
        break;
    case 12:
        await_ticks();
        break;
    case 13:
        count_by_descriptor();
        break;
    case 14:
        count_by_signals();
        break;
    case 15:
        queue_signals();
        break;
    case 16:
        pass_bytes();
        break;
    case 17:
        pass_tokens();
        break;
    case 18:
        pass_turns();
        break;
    case 19: /* so often that the lines move in between */
        for (int i = 0; i < READINGS * (depth > 0); i++)
            now_ns();
        break;
    case 20:
        sleep_ns(1 + pick(2000000));
        break;
    case 21:
        park(pick(PARKINGS), 1 + pick(2000000));
        break;
    }
    now_ns();
    tell_lines();
    return status_of(seed);
}
