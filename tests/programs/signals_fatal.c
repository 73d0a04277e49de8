// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 autojump=yes bare=never
// run: start=1970-01-01T00:00:00Z on=static native=no bare=never
// run: start=1970-01-01T00:00:00Z on=static waits=real bare=never
/* A signal that is not blocked, has no handler and ends the process does so also while a thread waits for it. One
 * that would dump core, or has a handler, is taken by the wait (complete_signal, kernel/signal.c). */
#include "check.h"
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>

static volatile int *calls;
static sigset_t set;

static void take_by_sigwait(void)
{
    int number;
    *calls = 1;
    sigwait(&set, &number);
    _exit(number);
}

static void take_by_sigtimedwait(void)
{
    siginfo_t info;
    struct timespec much = {100000, 0};
    *calls = 1;
    _exit(sigtimedwait(&set, &info, &much));
}

static void take_by_signalfd(void)
{
    struct signalfd_siginfo info;
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    CHECK(fd >= 0);
    *calls = 1;
    CHECK(read(fd, &info, sizeof info) == sizeof info);
    _exit((int)info.ssi_signo);
}

static void take_by_poll(void)
{
    struct signalfd_siginfo info;
    struct pollfd poll_fd = {.fd = signalfd(-1, &set, SFD_CLOEXEC), .events = POLLIN};
    CHECK(poll_fd.fd >= 0);
    *calls = 1;
    CHECK(poll(&poll_fd, 1, -1) == 1);
    CHECK(read(poll_fd.fd, &info, sizeof info) == sizeof info);
    _exit((int)info.ssi_signo);
}

static void on_signal(int number)
{
    (void)number;
    _exit(99);
}

enum sender { PARENT, TIMER };
enum disposition { BY_DEFAULT, CAUGHT, BLOCKED };

/* Returns the wait status. */
static int status_of(void (*take)(void), int number, enum sender sender, enum disposition disposition)
{
    char path[64], state = 0;
    *calls = 0;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        sigset_t none;
        sigemptyset(&none);
        struct rlimit limit = {0, 0};
        CHECK(setrlimit(RLIMIT_CORE, &limit) == 0);
        CHECK(sigprocmask(SIG_SETMASK, disposition == BLOCKED ? &set : &none, NULL) == 0);
        CHECK(signal(number, disposition == CAUGHT ? on_signal : SIG_DFL) != SIG_ERR);
        if (sender == TIMER) {
            struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
            struct itimerspec setting = {{0, 0}, {0, 100000000}}; /* later than it waits, on a busy machine too */
            timer_t timer;
            CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
            CHECK(timer_settime(timer, 0, &setting, NULL) == 0);
        }
        take();
    }
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (int is_there = 0; sender == PARENT && (!is_there || state != 'S');) {
        is_there = *calls; /* before the look */
        FILE *stat = fopen(path, "r");
        CHECK(stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1);
        fclose(stat);
        CHECK(state != 'Z');
    }
    if (sender == PARENT)
        CHECK(kill(pid, number) == 0);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

int main(void)
{
    static void (*const takers[])(void) = {take_by_sigwait, take_by_sigtimedwait, take_by_signalfd, take_by_poll};
    const int fatal[] = {SIGUSR1, SIGALRM, SIGTERM, SIGRTMIN + 1};
    calls = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(calls != MAP_FAILED);
    for (int taker = 0; taker < 4; taker++) {
        for (enum sender sender = PARENT; sender <= TIMER; sender++) {
            for (int i = 0; i < 4; i++) {
                sigemptyset(&set);
                sigaddset(&set, fatal[i]);
                CHECK_EQUAL(status_of(takers[taker], fatal[i], sender, BY_DEFAULT), fatal[i]);
                CHECK_EQUAL(status_of(takers[taker], fatal[i], sender, BLOCKED), fatal[i] << 8);
            }
            if (taker > 1)
                continue; /* read(2) and poll(2) let the handler run first */
            sigaddset(&set, SIGUSR1);
            sigaddset(&set, SIGQUIT);
            CHECK_EQUAL(status_of(takers[taker], SIGUSR1, sender, CAUGHT), SIGUSR1 << 8);
            CHECK_EQUAL(status_of(takers[taker], SIGQUIT, sender, BY_DEFAULT), SIGQUIT << 8);
        }
    }
    return success();
}
