// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 monotonic=freeze bare=never
// run: start=1970-01-01T00:00:00Z on=static native=no bare=never
// run: start=1970-01-01T00:00:00Z on=static waits=real bare=never
/* A signal that is ignored and not blocked is nobody's, also while a thread waits for it; one that is blocked is
 * taken, ignored or not. */
#include "check.h"
#include <signal.h>
#include <sys/mman.h>

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

static void wait_until_asleep(pid_t pid, int calls)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    while (scene->calls < calls || state != 'S') {
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
    for (int call = 1; call <= 2; call++) {
        for (int i = 0; i < 3; i++) {
            wait_until_asleep(pid, call);
            CHECK(kill(pid, i % 2 ? SIGWINCH : SIGUSR2) == 0);
        }
        wait_until_asleep(pid, call);
        CHECK(kill(pid, call == 1 ? SIGUSR1 : SIGHUP) == 0);
    }
    check_child(pid);
    CHECK_EQUAL(scene->results[0], SIGUSR1);
    CHECK_EQUAL(scene->results[1], SIGHUP);
    CHECK_EQUAL(scene->results[2], -EAGAIN);
    CHECK_EQUAL(scene->results[3], -EAGAIN);
    CHECK_EQUAL(scene->results[4], SIGWINCH);
    return success();
}
