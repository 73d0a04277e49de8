/* loop_of KIND PERIOD_US COUNT: waits so often, each time alike, and tells how long all of it took by its clock. */
#include "../check.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { NSEC = 1000000000, FUTEX_WAITV = 449, FUTEX2_U32 = 2 };

static struct timespec after(clockid_t clock, struct timespec span)
{
    struct timespec until;
    clock_gettime(clock, &until);
    until.tv_nsec += span.tv_nsec;
    until.tv_sec += span.tv_sec + until.tv_nsec / NSEC;
    until.tv_nsec %= NSEC;
    return until;
}

int main(int count_of_words, char **words)
{
    if (count_of_words != 4)
        return 2;
    const char *kind = words[1];
    long us = atol(words[2]), count = atol(words[3]);
    struct timespec span = {us / 1000000, us % 1000000 * 1000}, start, end;
    int epoll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0), word = 0;
    int semaphore = semget(IPC_PRIVATE, 1, 0600);
    char name[32], message[64];
    struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = sizeof message};
    snprintf(name, sizeof name, "/loop_of-%d", getpid());
    mqd_t queue = mq_open(name, O_CREAT | O_RDONLY, 0600, &attributes);
    mq_unlink(name);
    struct itimerspec each = {span, span};
    struct epoll_event event;
    struct sembuf take = {0, -1, 0};
    struct pollfd ends = {epoll, POLLIN, 0};
    sigset_t signals;
    uint64_t ticks;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (!strncmp(kind, "timerfd", 7))
        timerfd_settime(timer, 0, &each, NULL);
    if (!strcmp(kind, "timerfd+epoll"))
        epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &(struct epoll_event){.events = EPOLLIN});
    clock_gettime(CLOCK_MONOTONIC, &start);
    end = start;
    for (long i = 0; i < count; i++) {
        if (!strcmp(kind, "nanosleep")) {
            nanosleep(&span, NULL);
        } else if (!strcmp(kind, "nanosleep-until")) {
            end.tv_nsec += span.tv_nsec;
            end.tv_sec += span.tv_sec + end.tv_nsec / NSEC;
            end.tv_nsec %= NSEC;
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
        } else if (!strcmp(kind, "poll")) {
            poll(&ends, 1, us / 1000);
        } else if (!strcmp(kind, "ppoll")) {
            ppoll(&ends, 1, &span, NULL);
        } else if (!strcmp(kind, "select")) {
            struct timeval left = {us / 1000000, us % 1000000};
            fd_set set;
            FD_ZERO(&set);
            FD_SET(epoll, &set);
            select(epoll + 1, &set, NULL, NULL, &left);
        } else if (!strcmp(kind, "epoll_wait")) {
            epoll_wait(epoll, &event, 1, us / 1000);
        } else if (!strcmp(kind, "futex")) {
            syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &span, NULL, 0);
        } else if (!strcmp(kind, "futex-until")) {
            struct timespec until = after(CLOCK_MONOTONIC, span);
            syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL, ~0);
        } else if (!strcmp(kind, "futex_waitv")) {
            struct timespec until = after(CLOCK_MONOTONIC, span);
            struct { uint64_t value, address; uint32_t flags, reserved; } waiter = {0, (uintptr_t)&word, FUTEX2_U32, 0};
            syscall(FUTEX_WAITV, &waiter, 1, 0, &until, CLOCK_MONOTONIC);
        } else if (!strcmp(kind, "mq_timedreceive")) {
            struct timespec until = after(CLOCK_REALTIME, span);
            mq_timedreceive(queue, message, sizeof message, NULL, &until);
        } else if (!strcmp(kind, "sigtimedwait")) {
            sigtimedwait(&signals, NULL, &span);
        } else if (!strcmp(kind, "semtimedop")) {
            semtimedop(semaphore, &take, 1, &span);
        } else if (!strcmp(kind, "timerfd+epoll")) {
            epoll_wait(epoll, &event, 1, -1);
            read(timer, &ticks, sizeof ticks);
        } else if (!strcmp(kind, "timerfd")) {
            read(timer, &ticks, sizeof ticks);
        } else {
            return 2;
        }
    }
    semctl(semaphore, 0, IPC_RMID);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.6f\n", end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9);
    return 0;
}
