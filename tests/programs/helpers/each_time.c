/* Waits for SECONDS again and again, in the way that its first argument says. Each time it says when
 * that was, by the wall clock in nanoseconds, and how many times had passed. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static void say(long long count)
{
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_REALTIME, &now);
    int size = snprintf(line, sizeof line, "%lld %lld\n", now.tv_sec * 1000000000LL + now.tv_nsec, count);
    if (write(1, line, size) != size)
        _exit(1);
}

static void sleep_for(long seconds)
{
    struct timespec time = {seconds, 0};
    if (nanosleep(&time, NULL) != 0)
        _exit(2);
}

static int timer_of(long seconds)
{
    struct itimerspec spec = {{seconds, 0}, {seconds, 0}};
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    if (fd < 0 || timerfd_settime(fd, 0, &spec, NULL) != 0)
        _exit(2);
    return fd;
}

static long long read_count(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof count) != sizeof count)
        _exit(2);
    return count;
}

/* One that is told of by a signal. */
static void tick_by_signal(int number, long seconds, int is_posix)
{
    sigset_t set;
    timer_t timer;
    siginfo_t info;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
    struct itimerspec spec = {{seconds, 0}, {seconds, 0}};
    struct itimerval value = {{seconds, 0}, {seconds, 0}};
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (is_posix && (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
                     timer_settime(timer, 0, &spec, NULL) != 0))
        _exit(2);
    if (!is_posix && setitimer(ITIMER_REAL, &value, NULL) != 0)
        _exit(2);
    while (sigwaitinfo(&set, &info) == number) {
        if (is_posix && timer_getoverrun(timer) != info.si_overrun)
            _exit(3);
        say(is_posix ? 1 + info.si_overrun : 1);
    }
}

/* So many timers, of all of which the counts are read when the first one has expired. */
static void read_many(long seconds, int count)
{
    int fds[1000];
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 0; i < count; i++)
        fds[i] = timer_of(seconds);
    for (;;) {
        long long sum = 0;
        for (int i = 0; i < count; i++)
            sum += read_count(fds[i]);
        say(sum);
    }
}

static volatile int woken;

static void *sleep_often(void *seconds)
{
    for (;;) {
        sleep_for((long)seconds);
        __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

/* So many threads that sleep; the first one says each time how many sleeps have ended before. */
static void sleep_in_many(long seconds, int count)
{
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, sleep_often, (void *)seconds) != 0)
            _exit(2);
    }
    for (char letter; read(0, &letter, 1) == 1;)
        say(woken);
}

int main(int argc, char **argv)
{
    const char *way = argc > 2 ? argv[1] : "";
    long seconds = argc > 2 ? atol(argv[2]) : 0;
    int is_child = 0;
    if (strcmp(way, "timer") == 0)
        tick_by_signal(SIGRTMIN, seconds, 1);
    if (strcmp(way, "itimer") == 0)
        tick_by_signal(SIGALRM, seconds, 0);
    if (strcmp(way, "timers") == 0)
        read_many(seconds, 1000);
    if (strcmp(way, "threads") == 0) {
        sleep_in_many(seconds, 1000);
        return 0;
    }
    int fd = timer_of(seconds);
    for (;;) {
        long long count = 1;
        if (strcmp(way, "timerfd") == 0)
            count = read_count(fd);
        else if (strcmp(way, "poll") == 0)
            count += poll(NULL, 0, seconds * 1000);
        else
            sleep_for(seconds);
        say(count);
        if (strcmp(way, "dies") == 0)
            return 0;
        if (strcmp(way, "is-killed") == 0)
            raise(SIGKILL);
        if (strcmp(way, "execs") == 0)
            execl("/proc/self/exe", argv[0], way, argv[2], NULL);
        if (strcmp(way, "forks") == 0 && !is_child)
            is_child = fork() == 0;
        if (strcmp(way, "spins") == 0)
            for (;;)
                ;
    }
}
