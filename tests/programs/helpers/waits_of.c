/* waits_of LOG THREAD... [/ THREAD...]: each word is a thread, each "/" begins another process. A thread's steps, by a comma
 * apart, are a letter and a number: a wait of so many milliseconds, by the call that the letter stands for; or "k", which
 * writes to the thread of that number (in the order of the words), and "w", which waits for that on its own pipe.
 *
 * Thread number N begins N + 1 ms after the start, so that no two begin at one instant. After each step it appends a line to
 * the file LOG: its number, the step, how many nanoseconds have passed since the start on the monotonic and on the wall clock,
 * and what the call has returned. */
#include "../check.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/timerfd.h>

enum { MOST = 32, FUTEX_WAITV = 449, FUTEX2_U32 = 2 };

static struct { int ends[2]; char *steps; } threads[MOST];
static struct timespec monotonic, wall;
static int log_fd;

static long long passed_ns(clockid_t id, const struct timespec *since)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (now.tv_sec - since->tv_sec) * NSEC_PER_SEC + now.tv_nsec - since->tv_nsec;
}

static long wait_by(int letter, long ms, int thread)
{
    struct timespec span = {ms / 1000, ms % 1000 * 1000000}, until;
    struct itimerspec once = {{0, 0}, span};
    struct timeval value = {ms / 1000, ms % 1000 * 1000};
    struct pollfd end = {threads[thread].ends[0], POLLIN, 0};
    struct epoll_event event;
    struct sembuf take = {0, -1, 0};
    sigset_t signals;
    uint64_t count = 0;
    char byte;
    int word = 0;
    long result;
    clock_gettime(strchr("rxo", letter) ? CLOCK_REALTIME : CLOCK_MONOTONIC, &until);
    until.tv_nsec += span.tv_nsec;
    until.tv_sec += span.tv_sec + until.tv_nsec / NSEC_PER_SEC;
    until.tv_nsec %= NSEC_PER_SEC;
    switch (letter) {
    case 'n': return nanosleep(&span, NULL);
    case 'u': return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    case 'p': return poll(NULL, 0, ms);
    case 'q': return ppoll(NULL, 0, &span, NULL);
    case 's': return select(0, NULL, NULL, NULL, &value);
    case 'f': return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &span, NULL, 0) ? -errno : 0;
    case 'b': return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL, ~0) ? -errno : 0;
    case 'r':
        return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &until, NULL, ~0) ? -errno : 0;
    case 'g':
        sigemptyset(&signals);
        sigaddset(&signals, SIGUSR2);
        return sigtimedwait(&signals, NULL, &span) < 0 ? -errno : 0;
    case 'm': {
        int set = semget(IPC_PRIVATE, 1, 0600);
        result = semtimedop(set, &take, 1, &span) ? -errno : 0;
        semctl(set, 0, IPC_RMID);
        return result;
    }
    case 'v':
    case 'x': {
        struct { uint64_t value, address; uint32_t flags, reserved; } waiter = {0, (uintptr_t)&word, FUTEX2_U32, 0};
        return syscall(FUTEX_WAITV, &waiter, 1, 0, &until, letter == 'x' ? CLOCK_REALTIME : CLOCK_MONOTONIC) ? -errno : 0;
    }
    case 'o': {
        char name[64], message[64];
        struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = sizeof message};
        snprintf(name, sizeof name, "/vdsotime-%d-%d", getpid(), thread);
        mqd_t queue = mq_open(name, O_CREAT | O_RDONLY, 0600, &attributes);
        CHECK(queue >= 0 && mq_unlink(name) == 0);
        result = mq_timedreceive(queue, message, sizeof message, NULL, &until) < 0 ? -errno : 0;
        mq_close(queue);
        return result;
    }
    case 'e': {
        int fd = epoll_create1(EPOLL_CLOEXEC);
        result = epoll_wait(fd, &event, 1, ms);
        close(fd);
        return result;
    }
    case 't': {
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        timerfd_settime(fd, 0, &once, NULL);
        result = read(fd, &count, sizeof count) == sizeof count ? (long)count : -errno;
        close(fd);
        return result;
    }
    case 'k': return write(threads[ms].ends[1], "", 1);
    case 'w':
        result = poll(&end, 1, ms);
        return result > 0 ? read(end.fd, &byte, 1) : result;
    }
    return -ENOSYS;
}

static void *run(void *argument)
{
    int thread = (int)(intptr_t)argument, step = 0;
    char *rest = threads[thread].steps, line[128];
    wait_by('n', thread + 1, thread);
    for (char *word = strsep(&rest, ","); word; word = strsep(&rest, ","), step++) {
        long result = wait_by(word[0], atol(word + 1), thread);
        int size = snprintf(line, sizeof line, "%d %d %lld %lld %ld\n", thread, step, passed_ns(CLOCK_MONOTONIC, &monotonic),
                            passed_ns(CLOCK_REALTIME, &wall), result);
        CHECK(write(log_fd, line, size) == size);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t ids[MOST];
    int count = 0, own = 0, first = 0, processes = 0;
    sigset_t signals;
    CHECK(argc > 2 && argc < MOST);
    log_fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600);
    CHECK(log_fd >= 0);
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "/")) {
            CHECK(pipe(threads[count].ends) == 0);
            threads[count++].steps = argv[i];
        }
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    clock_gettime(CLOCK_REALTIME, &wall);
    for (int i = 2; i <= argc; i++) {
        if (i < argc && strcmp(argv[i], "/")) {
            own++;
            continue;
        }
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            for (int j = 0; j < own; j++)
                CHECK(pthread_create(&ids[j], NULL, run, (void *)(intptr_t)(first + j)) == 0);
            for (int j = 0; j < own; j++)
                pthread_join(ids[j], NULL);
            return 0;
        }
        processes++;
        first += own;
        own = 0;
    }
    for (int status; processes > 0; processes--)
        CHECK(wait(&status) > 0 && status == 0);
    return 0;
}
