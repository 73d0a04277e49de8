// run: machine=x86_64 start=1970-01-01T00:00:00Z on=static,dynamic args=real bare=fails
// run: machine=x86_64 start=2000-01-01T00:00:00Z rate=1 args=real bare=never
// run: machine=x86_64 start=2000-01-01T00:00:00Z rate=3600 monotonic=rate args=fast bare=never
// run: machine=x86_64 start=1970-01-01T00:00:00Z monotonic=freeze autojump=yes args=jumping bare-args=bare bare=passes
/* Waits by 32-bit system calls that a 64-bit program makes (int80.c). Their times stand below 4 GiB,
 * where such a call's pointers reach, in memory that cannot be written. With `no-room` nothing more
 * may be mapped there, with `filter` whoever does is killed; with `asked` it waits for each line on its standard input. */
#include "elapse.h"
#include <setjmp.h>
#include <signal.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

enum {
    SELECT = 82, NANOSLEEP = 162, POLL = 168, MMAP2 = 192, FUTEX = 240, TIMER_CREATE = 259, TIMER_SETTIME = 260,
    CLOCK_NANOSLEEP = 267, TIMERFD_SETTIME = 325, CLOCK_NANOSLEEP64 = 407, TIMER_SETTIME64 = 409,
    TIMERFD_SETTIME64 = 411, FUTEX64 = 422
};

#define WAIT_NS 20000000LL
#define LONGEST_NS 5000000000LL

static struct memory {
    struct { int64_t interval[2], value[2]; } wide;
    struct { int32_t interval[2], value[2]; } narrow;
    struct { uint32_t count, sets[3], timeout; } select; /* its arguments */
    int32_t timeval[2];
} *memory; /* in a page, behind which is another that can be written always */
static uint32_t *word;

static sigjmp_buf no_such_calls;

static void on_fault(int number)
{
    (void)number;
    siglongjmp(no_such_calls, 1);
}

static long int80(long number, long a, const void *b, long c, const void *d, long e)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "r8", "r9", "r10", "r11", "memory");
    return result;
}

static void protect(int protection)
{
    CHECK(mprotect(memory, 4096, protection) == 0);
}

/* A point or a length of time, in both widths. */
static void set_time(int64_t ns)
{
    protect(PROT_READ | PROT_WRITE);
    memory->wide.value[0] = memory->narrow.value[0] = memory->timeval[0] = ns / NSEC_PER_SEC;
    memory->wide.value[1] = memory->narrow.value[1] = ns % NSEC_PER_SEC;
    memory->timeval[1] = ns % NSEC_PER_SEC / 1000;
    memory->select.timeout = (uint32_t)(uintptr_t)memory->timeval;
    protect(PROT_READ);
}

static int64_t start(clockid_t id)
{
    int64_t now = now_ns(); /* before the clock's: a busy machine may come in between */
    set_time(clock_ns(id) + WAIT_NS);
    return now;
}

static void end(const char *what, int64_t started_ns)
{
    int64_t passed_ns = now_ns() - started_ns;
    if (passed_ns < WAIT_NS - 1000000 || passed_ns > LONGEST_NS) {
        dprintf(2, "%s took %lld ns\n", what, (long long)passed_ns);
        _exit(1);
    }
}

static void wait_until(clockid_t id, int is_wide)
{
    int bitset = 9 | 128 | (id == CLOCK_REALTIME ? 256 : 0); /* FUTEX_WAIT_BITSET_PRIVATE */
    const void *value = is_wide ? (void *)memory->wide.value : memory->narrow.value;
    const void *spec = is_wide ? (void *)&memory->wide : &memory->narrow;
    uint64_t count;
    int64_t started_ns;
    sigset_t set;
    int number;

    started_ns = start(id);
    CHECK_EQUAL(int80(is_wide ? CLOCK_NANOSLEEP64 : CLOCK_NANOSLEEP, id, (void *)TIMER_ABSTIME, (long)value, NULL, 0),
                0);
    end("clock_nanosleep", started_ns);

    started_ns = start(id);
    long result;
    register long bits __asm__("rbp") = -1; /* the sixth argument */
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(is_wide ? FUTEX64 : FUTEX), "b"(word), "c"(bitset), "d"(0), "S"(value), "D"(0), "r"(bits)
                     : "r8", "r9", "r10", "r11", "memory");
    CHECK_EQUAL(result, -ETIMEDOUT);
    end("FUTEX_WAIT_BITSET", started_ns);

    int fd = timerfd_create(id, TFD_CLOEXEC);
    CHECK(fd >= 0);
    started_ns = start(id);
    CHECK_EQUAL(int80(is_wide ? TIMERFD_SETTIME64 : TIMERFD_SETTIME, fd, (void *)TFD_TIMER_ABSTIME, (long)spec, NULL,
                      0), 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
    end("timerfd_settime", started_ns);
    close(fd);

    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK_EQUAL(int80(TIMER_CREATE, id, NULL, (long)word, NULL, 0), 0);
    int timer = *word;
    *word = 0;
    started_ns = start(id);
    CHECK_EQUAL(int80(is_wide ? TIMER_SETTIME64 : TIMER_SETTIME, timer, (void *)TIMER_ABSTIME, (long)spec, NULL, 0), 0);
    CHECK(sigwait(&set, &number) == 0 && number == SIGALRM);
    end("timer_settime", started_ns);
}

static void check_length(const char *what, int64_t started_ns)
{
    int64_t passed_ns = now_ns() - started_ns;
    if (passed_ns < length_ns || (is_exact() && passed_ns > length_ns + NSEC_PER_SEC)) {
        dprintf(2, "%s took %lld ns\n", what, (long long)passed_ns);
        _exit(1);
    }
}

static void wait_for(int is_wide)
{
    const void *value = is_wide ? (void *)memory->wide.value : memory->narrow.value;
    int64_t started_ns;
    set_time(length_ns);

    started_ns = now_ns();
    CHECK_EQUAL(int80(NANOSLEEP, (long)memory->narrow.value, NULL, 0, NULL, 0), 0);
    check_length("nanosleep", started_ns);
    started_ns = now_ns();
    CHECK_EQUAL(int80(is_wide ? CLOCK_NANOSLEEP64 : CLOCK_NANOSLEEP, CLOCK_REALTIME, NULL, (long)value, NULL, 0), 0);
    check_length("clock_nanosleep", started_ns);
    started_ns = now_ns();
    CHECK_EQUAL(int80(is_wide ? FUTEX64 : FUTEX, (long)word, NULL, 0, value, 0), -ETIMEDOUT);
    check_length("FUTEX_WAIT", started_ns);
    started_ns = now_ns();
    CHECK_EQUAL(int80(SELECT, (long)&memory->select, NULL, 0, NULL, 0), 0);
    check_length("select", started_ns);
    started_ns = now_ns();
    CHECK_EQUAL(int80(POLL, 0, NULL, length_ns / 1000000, NULL, 0), 0);
    check_length("poll", started_ns);
}

static void kill_who_maps(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the number */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MMAP2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void wait_when_asked(void)
{
    char line[64];
    set_time(length_ns);
    CHECK(write(1, "up\n", 3) == 3);
    while (read(0, line, sizeof line) > 0) {
        CHECK_EQUAL(int80(NANOSLEEP, (long)memory->narrow.value, NULL, 0, NULL, 0), 0);
        CHECK(write(1, "ok\n", 3) == 3);
    }
}

static void wait_in_every_way(char **argv)
{
    for (int is_wide = 0; is_wide < 2; is_wide++)
        if (strcmp(argv[3], "real") == 0) {
            wait_until(CLOCK_REALTIME, is_wide);
            wait_until(CLOCK_MONOTONIC, is_wide);
        } else {
            wait_for(is_wide);
        }
}

int main(int argc, char **argv)
{
    static struct rlimit as_it_is;
    CHECK(argc == 4);
    memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(memory != MAP_FAILED);
    word = (void *)((char *)memory + 4096);
    signal(SIGSEGV, on_fault);
    if (sigsetjmp(no_such_calls, 1) == 0) {
        if (strcmp(argv[3], "no-room") == 0 || strcmp(argv[3], "filter") == 0) {
            if (strcmp(argv[3], "filter") == 0)
                kill_who_maps();
            else
                CHECK(setrlimit(RLIMIT_AS, &as_it_is) == 0);
            set_time(WAIT_NS);
            for (int i = 0; i < 2; i++)
                CHECK_EQUAL(int80(NANOSLEEP, (long)memory->narrow.value, NULL, 0, NULL, 0), 0);
        } else if (strcmp(argv[3], "asked") == 0) {
            length_ns = atoll(argv[1]);
            wait_when_asked();
        } else {
            if (strcmp(argv[3], "real") == 0)
                CHECK(time(NULL) < 1000000000); /* September 2001 */
            else
                read_course(argv, 20000000);
            wait_in_every_way(argv);
            pid_t pid = fork();
            if (pid == 0) {
                wait_in_every_way(argv);
                _exit(0);
            }
            check_child(pid);
        }
    }
    return success();
}
