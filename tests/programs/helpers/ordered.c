/* Five processes of four threads each, with 500 deadlines, many of which are the same instant. Each
 * notes what it was woken for by appending to the file LOG, without a lock.
 *
 * Threads that begin to wait at one instant race for who is the first. So each wakes once at a time of
 * its own, and waits then for an instant that all have in common. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES = 5, THREADS = 4, DEADLINES = 25, COMMON_S = 1000 };

static int log_fd, process;
static struct timespec from;

#define check(condition)                                          \
    do {                                                          \
        if (!(condition)) {                                       \
            dprintf(2, "%d: not %s: %m\n", __LINE__, #condition); \
            _exit(1);                                             \
        }                                                         \
    } while (0)

static void note(int thread, int step)
{
    char line[64];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int size = snprintf(line, sizeof line, "%lld.%09ld %d.%d %d\n", (long long)now.tv_sec,
                        now.tv_nsec, process, thread, step);
    check(write(log_fd, line, size) == size);
}

static void sleep_until(time_t second)
{
    struct timespec end = {from.tv_sec + second, from.tv_nsec};
    check(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == 0);
}

static int timer_of(time_t seconds)
{
    struct itimerspec spec = {{seconds, 0}, {seconds, 0}};
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    check(fd >= 0 && timerfd_settime(fd, 0, &spec, NULL) == 0);
    return fd;
}

static void wait_for_condition(time_t seconds)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += seconds;
    pthread_mutex_lock(&lock);
    check(pthread_cond_timedwait(&cond, &lock, &end) != 0);
    pthread_mutex_unlock(&lock);
}

/* Each thread has its own way, and its own number of seconds. */
static void wait_for(int way, time_t seconds, int timer)
{
    struct timespec time = {seconds, 0};
    struct timeval value = {seconds, 0};
    struct epoll_event event;
    uint64_t count;
    switch (way % 7) {
    case 0: check(nanosleep(&time, NULL) == 0); break;
    case 1: check(poll(NULL, 0, seconds * 1000) == 0); break;
    case 2: check(read(timer, &count, sizeof count) == sizeof count && count == 1); break;
    case 3: wait_for_condition(seconds); break;
    case 4: check(select(0, NULL, NULL, NULL, &value) == 0); break;
    case 5: check(ppoll(NULL, 0, &time, NULL) == 0); break;
    default: {
        int fd = epoll_create1(0);
        check(epoll_wait(fd, &event, 1, seconds * 1000) == 0);
        close(fd);
    }
    }
}

static void *run(void *argument)
{
    int thread = (int)(intptr_t)argument, way = process * THREADS + thread, timer;
    time_t seconds = 1 + way % 3;
    sleep_until(100 + way);
    timer = timer_of(COMMON_S - 100 - way); /* the same instant once more */
    sleep_until(COMMON_S);
    close(timer);
    timer = timer_of(seconds);
    for (int step = 0; step < DEADLINES; step++) {
        wait_for(way, seconds, timer);
        note(thread, step);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    check(argc == 2);
    log_fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600);
    check(log_fd >= 0);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 1; i < PROCESSES; i++)
        if (fork() == 0) {
            process = i;
            break;
        }
    for (int i = 1; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, run, (void *)(intptr_t)i) == 0);
    run(NULL);
    for (int i = 1; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (process == 0)
        for (int i = 1, status; i < PROCESSES; i++)
            check(wait(&status) > 0 && status == 0);
    return 0;
}
