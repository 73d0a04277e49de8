/* Usage: storm SEED DEPTH. Does something that the seed decides, as do those that it starts, and ends with the status that the
 * seed says. Whatever the clock does meanwhile: no thread sees CLOCK_MONOTONIC go back, no sleep ends early, no wake-up is lost
 * or comes twice, every child ends as its own seed says. */
#include "../check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

enum { STATUSES = 120, THREADS = 4, ROUNDS = 5, TICKS = 3 };

static uint64_t state;
static volatile sig_atomic_t ticks;

/* xorshift64*, as in "An experimental exploration of Marsaglia's xorshift generators, scrambled" */
static unsigned pick(unsigned below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (unsigned)(state * 0x2545f4914f6cdd1dULL >> 33) % below;
}

static int status_of(long seed)
{
    return (int)((seed * 7 + 3) % STATUSES);
}

static int64_t now_ns(void)
{
    static __thread int64_t last;
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    int64_t read_ns = now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
    CHECK(read_ns >= last);
    last = read_ns;
    return read_ns;
}

static void sleep_ns(int64_t length_ns)
{
    struct timespec length = {length_ns / NSEC_PER_SEC, length_ns % NSEC_PER_SEC};
    int64_t until_ns = now_ns() + length_ns;
    while (nanosleep(&length, &length) < 0)
        CHECK(errno == EINTR);
    CHECK_EQUAL(now_ns() < until_ns ? now_ns() - until_ns : 0, 0);
}

/* Nobody outlives who has started it, as one that is stopped would for ever. */
static void end_with(pid_t parent)
{
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    if (getppid() != parent)
        _exit(1);
}

static void execute(const char *path, long seed, int depth)
{
    char words[2][24];
    snprintf(words[0], sizeof words[0], "%ld", seed);
    snprintf(words[1], sizeof words[1], "%d", depth);
    execl(path, "storm", words[0], words[1], (char *)NULL);
    _exit(127);
}

static void check_ended(pid_t child, long seed)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), status_of(seed));
}

static pid_t start(long seed, int depth, int is_vfork)
{
    pid_t own = getpid(), child = is_vfork ? vfork() : fork();
    CHECK(child >= 0);
    if (child == 0) {
        end_with(own);
        execute("/proc/self/exe", seed, depth);
    }
    return child;
}

static void start_children(long seed, int depth, int is_vfork)
{
    pid_t children[2];
    for (int i = 0; i < 2; i++)
        children[i] = start(seed + i + 1, depth - 1, is_vfork);
    for (int i = 0; i < 2; i++)
        check_ended(children[i], seed + i + 1);
}

static void *sleeper(void *argument)
{
    for (int i = 0; i < ROUNDS; i++)
        sleep_ns((int64_t)(uintptr_t)argument * 100000);
    return NULL;
}

static void *executer(void *argument)
{
    sleep_ns(1000000);
    execute("/proc/self/exe", (long)(intptr_t)argument, 0);
    return NULL;
}

static void run_threads(long seed, int executes)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, sleeper, (void *)(uintptr_t)(1 + pick(20))) == 0);
    if (executes) /* the others end by it, and the program begins anew with the same seed */
        CHECK(pthread_create(&threads[0], NULL, executer, (void *)(intptr_t)seed) == 0 && pause());
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
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

static void kill_child(long seed, int depth)
{
    int status;
    pid_t child = start(seed + 1, depth - 1, 0);
    sleep_ns(1 + pick(3000000));
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        CHECK_EQUAL(WTERMSIG(status), SIGKILL);
    else
        CHECK_EQUAL(WEXITSTATUS(status), status_of(seed + 1));
}

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

static void await_ticks(void)
{
    struct sigaction action = {.sa_handler = on_tick};
    struct itimerval once = {{0, 0}, {0, 1 + pick(5000)}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    for (int i = 0; i < TICKS; i++) {
        int64_t until_ns = now_ns() + once.it_value.tv_usec * 1000;
        sigset_t mask, none;
        sigemptyset(&none);
        sigemptyset(&mask);
        sigaddset(&mask, SIGALRM);
        CHECK(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
        CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
        while (ticks == i)
            CHECK(sigsuspend(&none) < 0 && errno == EINTR);
        CHECK_EQUAL(ticks, i + 1);
        CHECK(now_ns() >= until_ns);
    }
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
    for (int i = 0; i < 20; i++) {
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

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    long seed = atol(argv[1]);
    int depth = atoi(argv[2]);
    state = (uint64_t)seed * 0x9e3779b97f4a7c15ULL + 1;
    now_ns();
    switch (depth > 0 ? pick(9) : 8 + pick(2)) {
    case 0:
        start_children(seed, depth, 0);
        break;
    case 1:
        start_children(seed, depth, 1);
        break;
    case 2:
        run_threads(seed, 0);
        break;
    case 3:
        run_threads(seed, 1);
        break;
    case 4:
        stop_child();
        break;
    case 5:
        kill_child(seed, depth);
        break;
    case 6:
        await_ticks();
        break;
    case 7:
        pass_bytes();
        break;
    case 9:
        sleep_ns(1 + pick(2000000));
        break;
    }
    now_ns();
    return status_of(seed);
}
