/* What the programs of a storm share: what their seed decides, what all of them check of the clock, and how they start each
 * other. */
#ifndef STORM_H
#define STORM_H

#include "../check.h"
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { STATUSES = 120, MAX_PATHS = 4 };

/* The file that STORM_PAGE names, which all programs of one clock map: see storm.py. */
struct storm_page {
    _Atomic int64_t latest_ns; /* that any of them has read of CLOCK_MONOTONIC */
    int64_t apart_ns;          /* what is on the clock reads more than that, what is in real time less */
    _Atomic int64_t starts;
    _Atomic int32_t jumps; /* calls that let deadlines expire late */
    int32_t paths;
    _Atomic int32_t sets; /* calls that set a line or its rate */
    char path[MAX_PATHS][200]; /* the programs that may be started: for 64 and 32 bits, and off the clock */
};

static struct storm_page *page;
/* On the clock for a part of its life only: what it reads of a clock means nothing. */
static int is_visited, is_off_clock;
static uint64_t state;

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

static void check_later(clockid_t id, int64_t *last_ns)
{
    int64_t read_ns = clock_ns(id);
    CHECK_EQUAL(read_ns < *last_ns ? read_ns - *last_ns : 0, 0);
    *last_ns = read_ns;
}

/* What is on the clock reads nothing sooner than any other program has read before. */
static int64_t now_ns(void)
{
    static __thread int64_t last_ns, last_coarse_ns, last_raw_ns, last_boot_ns;
    if (!is_visited) {
        check_later(CLOCK_MONOTONIC_RAW, &last_raw_ns);
        check_later(CLOCK_BOOTTIME, &last_boot_ns);
        check_later(CLOCK_MONOTONIC_COARSE, &last_coarse_ns);
    }
    int64_t latest_ns = page->latest_ns, read_ns = clock_ns(CLOCK_MONOTONIC);
    if (is_visited)
        return read_ns;
    CHECK_EQUAL(read_ns < last_ns ? read_ns - last_ns : 0, 0);
    CHECK_EQUAL(read_ns < last_coarse_ns ? read_ns - last_coarse_ns : 0, 0);
    last_ns = read_ns;
    CHECK((read_ns < page->apart_ns) == is_off_clock);
    if (is_off_clock)
        return read_ns;
    CHECK_EQUAL(read_ns < latest_ns ? read_ns - latest_ns : 0, 0);
    while (read_ns > latest_ns && !atomic_compare_exchange_weak(&page->latest_ns, &latest_ns, read_ns))
        continue;
    return read_ns;
}

static void check_not_before(int64_t until_ns)
{
    int64_t read_ns = now_ns();
    if (!is_visited)
        CHECK_EQUAL(read_ns < until_ns ? read_ns - until_ns : 0, 0);
}

static void sleep_ns(int64_t length_ns)
{
    struct timespec length = {length_ns / NSEC_PER_SEC, length_ns % NSEC_PER_SEC};
    int64_t until_ns = now_ns() + length_ns;
    while (nanosleep(&length, &length) < 0)
        CHECK(errno == EINTR);
    check_not_before(until_ns);
}

/* Nobody outlives who has started it, as one that is stopped would for ever. */
static void end_with(pid_t parent)
{
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    if (getppid() != parent)
        _exit(1);
}

struct command {
    char seed[24], depth[24];
    char *words[4];
    const char *path;
};

/* Not the program's own file, which a program of another kind may have started. */
static void write_command(struct command *command, long seed, int depth)
{
    snprintf(command->seed, sizeof command->seed, "%ld", seed);
    snprintf(command->depth, sizeof command->depth, "%d", depth);
    command->path = page->path[seed % page->paths];
    command->words[0] = (char *)command->path;
    command->words[1] = command->seed;
    command->words[2] = command->depth;
    command->words[3] = NULL;
}

static void execute(long seed, int depth)
{
    struct command command;
    write_command(&command, seed, depth);
    execv(command.path, command.words);
    _exit(127);
}

static pid_t start(long seed, int depth, int is_vfork)
{
    pid_t own = getpid(), child = is_vfork ? vfork() : fork();
    CHECK(child >= 0);
    if (child == 0) {
        end_with(own);
        execute(seed, depth);
    }
    return child;
}

static void check_ended(pid_t child, long seed)
{
    int status;
    CHECK(waitpid(child, &status, __WALL) == child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), status_of(seed));
}

static void check_ended_or_killed(pid_t child, long seed)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        CHECK_EQUAL(WTERMSIG(status), SIGKILL);
    else
        CHECK_EQUAL(WEXITSTATUS(status), status_of(seed));
}

/* The lines, for the test to hold against what it has done to them: the wall line's reading between two of the other. */
static void tell_lines(void)
{
    if (is_visited || is_off_clock)
        return;
    int64_t before_ns = clock_ns(CLOCK_MONOTONIC), wall_ns = clock_ns(CLOCK_REALTIME);
    CHECK(dprintf(1, "%lld %lld %lld\n", (long long)before_ns, (long long)wall_ns,
                  (long long)clock_ns(CLOCK_MONOTONIC)) > 0);
}

/* Maps the page, and knows its place in the storm. */
static void begin(const char *name, long seed)
{
    const char *path = getenv("STORM_PAGE");
    CHECK(path != NULL);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(page != MAP_FAILED && close(fd) == 0);
    page->starts++;
    state = (uint64_t)seed * 0x9e3779b97f4a7c15ULL + 1;
    is_visited = getenv("STORM_VISITED") != NULL;
    is_off_clock = strstr(name, "off_clock") != NULL;
}

#endif
