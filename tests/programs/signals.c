// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386,i386-dynamic bare=passes
/* Signals arrive as if nobody watched: order, siginfo, masks, SA_RESTART and EINTR, pending over
 * exec, ignored ones without a trace, faults with their addresses, deaths with their status. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

#ifdef __aarch64__
#define BREAKPOINT TRAP_BRKPT
#else
#define BREAKPOINT SI_KERNEL
#endif

static volatile sig_atomic_t caught;
static volatile int *handled; /* as caught, for children to see */
static siginfo_t last;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
#ifdef __aarch64__ /* where the breakpoint is what it would return to */
    if (signal == SIGTRAP && info->si_code == BREAKPOINT)
        ((ucontext_t *)context)->uc_mcontext.pc += 4;
#endif
    CHECK_EQUAL(signal, info->si_signo);
    last = *info;
    caught++;
    ++*handled;
}

static void handle(int signal, int flags)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags};
    caught = 0;
    memset(&last, 0, sizeof last);
    CHECK(sigaction(signal, &action, NULL) == 0);
}

static void who_sent_it(void)
{
    handle(SIGUSR1, 0);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(caught == 1 && last.si_code == SI_USER);
    CHECK(last.si_pid == getpid() && last.si_uid == getuid());
    CHECK(raise(SIGUSR1) == 0);
    CHECK(caught == 2 && last.si_code == SI_TKILL);
    CHECK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 4711}) == 0);
    CHECK(caught == 3 && last.si_code == SI_QUEUE && last.si_value.sival_int == 4711);
    handle(SIGUSR1, SA_RESETHAND);
    CHECK(raise(SIGUSR1) == 0 && caught == 1);
    struct sigaction now;
    CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
}

static void queued_in_order(void)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    for (int i = 0; i < 50; i++)
        CHECK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}) == 0);
    for (int i = 0; i < 50; i++) {
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN);
        CHECK_EQUAL(info.si_value.sival_int, i);
    }
    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
}

/* For a child: sends `signal` to its parent once that sleeps. */
static void send_into_sleep(int signal)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", getppid());
    while (state != 'S') {
        FILE *stat = fopen(path, "r");
        CHECK(stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1);
        fclose(stat);
    }
    CHECK(kill(getppid(), signal) == 0);
}

/* What read(2) returns when `signal` comes while it sleeps. The child that sends it writes a byte for the
 * read to go on with: when the signal has been handled, or at once if nobody will. */
enum then { AT_ONCE, WHEN_HANDLED, NEVER };

static ssize_t read_during(int signal, enum then write_byte)
{
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0);
    int before = *handled;
    pid_t pid = fork();
    if (pid == 0) {
        send_into_sleep(signal);
        while (write_byte != AT_ONCE && *handled == before)
            sched_yield();
        CHECK(write_byte == NEVER || write(ends[1], "x", 1) == 1);
        _exit(0);
    }
    ssize_t result = read(ends[0], &byte, 1);
    int error = errno;
    check_child(pid);
    close(ends[0]);
    close(ends[1]);
    errno = error;
    return result;
}

static void interrupted_and_restarted(void)
{
    handle(SIGUSR1, SA_RESTART);
    CHECK(read_during(SIGUSR1, WHEN_HANDLED) == 1 && caught == 1);
    handle(SIGUSR1, 0);
    CHECK(read_during(SIGUSR1, NEVER) == -1 && errno == EINTR && caught == 1);
    CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    CHECK(read_during(SIGUSR1, AT_ONCE) == 1);
    CHECK(signal(SIGUSR1, SIG_DFL) != SIG_ERR);
    CHECK(read_during(SIGWINCH, AT_ONCE) == 1); /* ignored by default */
}

/* A sleep is cut short by a handler, SA_RESTART or not, and by nothing else. */
static void sleeps(void)
{
    struct itimerval soon = {.it_value = {.tv_usec = 30000}};
    struct timespec whole = {0, 80000000}, rest = {0, 0};
    int64_t before = clock_ns(CLOCK_MONOTONIC);

    CHECK(signal(SIGALRM, SIG_IGN) != SIG_ERR);
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    CHECK(nanosleep(&whole, &rest) == 0);
    CHECK(clock_ns(CLOCK_MONOTONIC) - before >= in_ns(whole));
    soon.it_value.tv_usec = 0; /* one that is late, on a busy machine, is none for the handler */
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    handle(SIGALRM, SA_RESTART);
    whole = (struct timespec){60, 0};
    pid_t pid = fork();
    if (pid == 0) {
        send_into_sleep(SIGALRM);
        _exit(0);
    }
    before = clock_ns(CLOCK_MONOTONIC);
    CHECK(nanosleep(&whole, &rest) == -1 && errno == EINTR && caught == 1);
    /* What is left is no less than what the whole of it would have left. */
    CHECK(in_ns(rest) > 0 && in_ns(rest) < in_ns(whole));
    CHECK(in_ns(rest) >= in_ns(whole) - (clock_ns(CLOCK_MONOTONIC) - before));
    check_child(pid);
}

static int status_after(void (*die)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        die();
        _exit(0);
    }
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    return status;
}

static void by_sigterm(void) { raise(SIGTERM); }
static void by_sigkill(void) { raise(SIGKILL); }
static void by_sigtrap(void) { raise(SIGTRAP); }
static void by_breakpoint(void) { __builtin_debugtrap(); }
static void by_fault(void) { *(volatile int *)16 = 1; }
static void by_abort(void) { abort(); }
static void by_realtime(void) { raise(SIGRTMAX); }
static void by_winch(void) { raise(SIGWINCH); }
static void by_exit(void) { _exit(77); }

static void deaths(void)
{
    CHECK_EQUAL(status_after(by_sigterm), SIGTERM);
    CHECK_EQUAL(status_after(by_sigkill), SIGKILL);
    CHECK_EQUAL(status_after(by_sigtrap), SIGTRAP);
    CHECK_EQUAL(status_after(by_breakpoint), SIGTRAP);
    CHECK_EQUAL(status_after(by_fault), SIGSEGV);
    CHECK_EQUAL(status_after(by_abort), SIGABRT);
    CHECK_EQUAL(status_after(by_realtime), SIGRTMAX);
    CHECK_EQUAL(status_after(by_winch), 0);
    CHECK_EQUAL(status_after(by_exit), 77 << 8);
}

static void traps_and_faults(void)
{
    handle(SIGTRAP, 0);
    CHECK(raise(SIGTRAP) == 0 && caught == 1 && last.si_code == SI_TKILL);
    CHECK(kill(getpid(), SIGTRAP) == 0 && caught == 2 && last.si_code == SI_USER);
    CHECK(last.si_pid == getpid());
    __builtin_debugtrap();
    CHECK(caught == 3 && last.si_code == BREAKPOINT);
    CHECK(signal(SIGTRAP, SIG_IGN) != SIG_ERR);
    CHECK(raise(SIGTRAP) == 0);
    handle(SIGSEGV, SA_RESETHAND);
    pid_t pid = fork();
    if (pid == 0) {
        by_fault(); /* the second fault, without a handler, ends it */
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void *block_and_pause(void *unused)
{
    for (;;)
        pause();
    return unused;
}

/* A signal to one thread is handled there. */
static pid_t handled_by;
static void on_thread(int signal) { (void)signal; handled_by = gettid(); }

static void to_a_thread(void)
{
    struct sigaction action = {.sa_handler = on_thread};
    pthread_t thread;
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, block_and_pause, NULL) == 0);
    CHECK(pthread_kill(thread, SIGUSR2) == 0);
    while (!__atomic_load_n(&handled_by, __ATOMIC_SEQ_CST))
        sched_yield();
    CHECK(handled_by != gettid());
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
}

/* Mask, ignored and pending signals pass through exec, handlers do not. */
static void before_exec(char **argv)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTRAP);
    handle(SIGUSR2, 0);
    CHECK(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    CHECK(signal(SIGTRAP, SIG_DFL) != SIG_ERR);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 42}) == 0);
    CHECK(raise(SIGTRAP) == 0);
    exec_role(argv, "after");
}

static void after_exec(void)
{
    sigset_t mask, pending;
    struct sigaction action;
    siginfo_t info;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
    CHECK(sigpending(&pending) == 0);
    for (int signal = 1; signal < 32; signal++) {
        int blocked = signal == SIGUSR1 || signal == SIGTRAP;
        CHECK_EQUAL(sigismember(&mask, signal), blocked);
        CHECK_EQUAL(sigismember(&pending, signal), blocked);
    }
    CHECK(sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
    CHECK(sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    sigdelset(&mask, SIGTRAP);
    CHECK(sigwaitinfo(&mask, &info) == SIGUSR1 && info.si_value.sival_int == 42);
    CHECK(info.si_code == SI_QUEUE && info.si_pid == getpid());
}

int main(int argc, char **argv)
{
    if (argc == 4) {
        after_exec();
        return success();
    }
    handled = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(handled != MAP_FAILED);
    who_sent_it();
    queued_in_order();
    interrupted_and_restarted();
    sleeps();
    deaths();
    traps_and_faults();
    to_a_thread();
    before_exec(argv);
}
