// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=passes
// run: start=2000-01-01T00:00:00Z waits=real on=static bare=never
/* What calls about time find in memory may change while they are made, and the memory go: another thread rewrites it all the
 * time. Each call ends, as for one value or the other, and nothing is written beside it. */
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/timerfd.h>

#define PAGE 4096
#define THREADS 3
#define ROUNDS 20
#define KINDS 12

/* No timer has an interval: as a tracee the program would hear of each expiration. */
static struct { struct itimerspec timer; struct timespec ts; uint64_t written[8]; } *volatile shared;
static volatile int ends;

static void *rewrite(void *argument)
{
    /* No mixture of two is long and valid. */
    static const int64_t seconds[] = {0, 0, -1, 0, INT64_MIN};
    static const int64_t parts[] = {0, 1, 999, 1000000, -1, NSEC_PER_SEC, INT64_MAX};
    for (unsigned round = 0; !ends; round++) {
        shared->ts.tv_sec = seconds[round % 5];
        shared->ts.tv_nsec = parts[round % 7];
        shared->timer.it_value = shared->ts;
        sched_yield(); /* to the tracer too */
        if (round % 13 == 0) {
            CHECK(mprotect((void *)shared, PAGE, round % 2 ? PROT_NONE : PROT_READ) == 0);
            sched_yield();
            CHECK(mprotect((void *)shared, PAGE, PROT_READ | PROT_WRITE) == 0);
        }
    }
    return argument;
}

static long call(unsigned kind, int timer_fd, timer_t timer)
{
    static uint32_t word;
    void *at = (void *)&shared->ts, *timer_at = (void *)shared, *to = (void *)shared->written;
    switch (kind) {
    case 0: return syscall(SYS_nanosleep, at, to);
    case 1: return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, at, to);
    case 2: return syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, at, NULL);
    case 3: return syscall(SYS_ppoll, NULL, 0, at, NULL, 8);
    case 4: return syscall(SYS_pselect6, 1, to, NULL, NULL, at, NULL);
    case 5: return syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, at, NULL, 0);
    case 6: return syscall(SYS_rt_sigtimedwait, to, NULL, at, 8);
    case 7: return syscall(SYS_timerfd_settime, timer_fd, 0, timer_at, to);
    case 8: return syscall(SYS_timer_settime, timer, 0, timer_at, to);
    case 9: return syscall(SYS_clock_gettime, CLOCK_REALTIME, to);
    case 10: return syscall(SYS_setitimer, ITIMER_REAL, timer_at, to);
    default: return syscall(SYS_timerfd_gettime, timer_fd, to);
    }
}

static void *run(void *argument)
{
    int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    timer_t timer;
    CHECK(timer_fd >= 0 && timer_create(CLOCK_MONOTONIC, &none, &timer) == 0);
    for (unsigned round = 0; round < ROUNDS * KINDS; round++) {
        long result = call(round % KINDS, timer_fd, timer);
        CHECK(result >= 0 || errno == EINVAL || errno == EFAULT || errno == ETIMEDOUT || errno == EAGAIN || errno == EINTR
              || errno == EBADF);
    }
    CHECK(timer_delete(timer) == 0 && close(timer_fd) == 0);
    return argument;
}

int main(int argc, char **argv)
{
    pthread_t writer, threads[THREADS];
    char *room = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(argc == 3 && argv[1] && room != MAP_FAILED);
    CHECK(signal(SIGALRM, SIG_IGN) != SIG_ERR);
    shared = (void *)(room + PAGE);
    CHECK(pthread_create(&writer, NULL, rewrite, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    ends = 1;
    CHECK(pthread_join(writer, NULL) == 0);
    for (int i = 0; i < PAGE; i++)
        CHECK(room[i] == 0 && room[2 * PAGE + i] == 0);
    return success();
}
