// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 monotonic=freeze bare=never
// run: start=1970-01-01T00:00:00Z on=static native=no bare=never
// run: start=1970-01-01T00:00:00Z on=static waits=real bare=never
/* A signal that is ignored and not blocked is nobody's, also while a thread waits for it; one that is blocked is
 * taken, ignored or not. */
#include "check.h"
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

static volatile struct scene { int calls, results[8]; } *scene;
static sigset_t set;

/* The call itself: a C library may make it again. */
static int take(siginfo_t *info, const struct timespec *timeout)
{
    scene->calls++;
#ifdef SYS_rt_sigtimedwait_time64
    long number = syscall(SYS_rt_sigtimedwait_time64, &set, info, timeout, 8L);
#else
    long number = syscall(SYS_rt_sigtimedwait, &set, info, timeout, 8L);
#endif
    return number < 0 ? -errno : number;
}

static int take_by_poll(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    struct signalfd_siginfo infos[4];
    scene->calls++;
    CHECK(poll(&poll_fd, 1, -1) == 1);
    long size = read(fd, infos, sizeof infos);
    CHECK(size > 0 && size % sizeof *infos == 0);
    return size == sizeof *infos ? (int)infos[0].ssi_signo : -1;
}

static int take_by_read(int fd)
{
    struct signalfd_siginfo infos[4];
    scene->calls++;
    long size = read(fd, infos, sizeof infos);
    CHECK(size > 0 && size % sizeof *infos == 0);
    return size == sizeof *infos ? (int)infos[0].ssi_signo : -1;
}

static void check_pending(int number, int is_pending)
{
    sigset_t pending;
    CHECK(sigpending(&pending) == 0);
    CHECK_EQUAL(sigismember(&pending, number), is_pending);
}

static void wait_until_asleep(pid_t pid, int calls)
{
    char path[64], state = 0;
    int is_there = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    while (!is_there || state != 'S') {
        is_there = scene->calls >= calls; /* before the look, which may be of the call before */
        FILE *stat = fopen(path, "r");
        CHECK(stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1);
        fclose(stat);
        if (state == 'Z')
            CHECK_EQUAL(scene->results[calls - 1], 0);
    }
}

static void child(void)
{
    siginfo_t info;
    struct timespec none = {0, 0}, little = {0, 5000000}, much = {100000, 0};
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGHUP);
    CHECK(sigprocmask(SIG_SETMASK, &blocked, NULL) == 0);
    CHECK(signal(SIGUSR2, SIG_IGN) != SIG_ERR && signal(SIGHUP, SIG_IGN) != SIG_ERR);
    scene->results[0] = take(NULL, NULL);
    scene->results[1] = take(&info, &much);
    CHECK_EQUAL(info.si_signo, SIGHUP);
    /* Its own, and before the call. */
    CHECK(kill(getpid(), SIGWINCH) == 0 && raise(SIGUSR2) == 0);
    scene->results[2] = take(&info, &none);
    scene->results[3] = take(&info, &little);
    CHECK(sigaddset(&blocked, SIGWINCH) == 0 && sigprocmask(SIG_SETMASK, &blocked, NULL) == 0);
    CHECK(kill(getpid(), SIGWINCH) == 0);
    scene->results[4] = take(&info, &little);

    CHECK(sigdelset(&blocked, SIGWINCH) == 0 && sigprocmask(SIG_SETMASK, &blocked, NULL) == 0);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    check_pending(SIGUSR2, 0);
    int fd = signalfd(-1, &set, SFD_CLOEXEC), again = signalfd(-1, &set, SFD_NONBLOCK);
    CHECK(fd >= 0 && again >= 0);
    CHECK(kill(getpid(), SIGWINCH) == 0 && raise(SIGUSR2) == 0);
    struct signalfd_siginfo one;
    CHECK(read(again, &one, sizeof one) == -1 && errno == EAGAIN);
    scene->results[5] = take_by_read(fd);
    scene->results[6] = take_by_poll(fd);
    /* Those that it blocks now are not. */
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    check_pending(SIGUSR2, 1);
    scene->results[7] = take_by_read(fd);
    _exit(0);
}

int main(void)
{
    scene = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(scene != MAP_FAILED);
    sigemptyset(&set);
    for (int i = 0; i < 4; i++)
        sigaddset(&set, (int[]){SIGUSR1, SIGUSR2, SIGWINCH, SIGHUP}[i]);
    pid_t pid = fork();
    if (!pid)
        child();
    for (int call = 1; call <= 7; call++) {
        if (call > 2 && call < 6)
            continue;
        for (int i = 0; i < 3; i++) {
            wait_until_asleep(pid, call);
            CHECK(kill(pid, i % 2 ? SIGWINCH : SIGUSR2) == 0);
        }
        wait_until_asleep(pid, call);
        CHECK(kill(pid, call % 2 ? SIGUSR1 : SIGHUP) == 0);
    }
    check_child(pid);
    CHECK_EQUAL(scene->results[0], SIGUSR1);
    CHECK_EQUAL(scene->results[1], SIGHUP);
    CHECK_EQUAL(scene->results[2], -EAGAIN);
    CHECK_EQUAL(scene->results[3], -EAGAIN);
    CHECK_EQUAL(scene->results[4], SIGWINCH);
    CHECK_EQUAL(scene->results[5], SIGHUP);
    CHECK_EQUAL(scene->results[6], SIGUSR1);
    CHECK_EQUAL(scene->results[7], SIGUSR2);
    return success();
}
