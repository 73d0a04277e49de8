// built: on=static,dynamic,i386
/* Waits in every way that there is, one thread each, says "up", and at the first line on its standard
 * input ends them all. Nothing but that may end them, with an error least of all; those with a time
 * limit last that long in real time, whatever becomes of the clocks meanwhile. */
#include "../check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/un.h>

#define LIMIT_NS (3 * NSEC_PER_SEC / 2)

static _Atomic int may_end;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static int epoll_pipe[2], poll_pipe[2], select_pipe[2], read_pipe[2], full_pipe[2], pair[2];
static int listener, semaphores, queue;
static _Atomic pid_t child;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void wait_epoll(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, epoll_pipe[0], &event) == 0);
    CHECK_EQUAL(epoll_wait(epoll, &event, 1, -1), 1);
}

static void wait_poll(void)
{
    struct pollfd fd = {.fd = poll_pipe[0], .events = POLLIN};
    CHECK_EQUAL(poll(&fd, 1, -1), 1);
}

static void wait_select(void)
{
    fd_set set;
    struct timeval limit = {.tv_sec = 100};
    FD_ZERO(&set);
    FD_SET(select_pipe[0], &set);
    CHECK_EQUAL(select(select_pipe[0] + 1, &set, NULL, NULL, &limit), 1);
}

static void wait_read(void)
{
    char data[8];
    CHECK_EQUAL(read(read_pipe[0], data, 8), 4);
    CHECK(memcmp(data, "data", 4) == 0);
}

static void wait_write(void)
{
    CHECK_EQUAL(write(full_pipe[1], "x", 1), 1);
}

static void wait_receive(void)
{
    char byte;
    struct timeval limit = {.tv_sec = 100};
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CHECK_EQUAL(recv(pair[0], &byte, 1, 0), 1);
}

static void wait_accept(void)
{
    CHECK(accept(listener, NULL, NULL) >= 0);
}

static void wait_condition(void)
{
    CHECK(pthread_mutex_lock(&mutex) == 0);
    while (!may_end)
        CHECK(pthread_cond_wait(&condition, &mutex) == 0);
    CHECK(pthread_mutex_unlock(&mutex) == 0);
}

static void wait_semaphore(void)
{
    CHECK_EQUAL(sem_wait(&semaphore), 0);
}

static void wait_semop(void)
{
    struct sembuf take = {.sem_op = -1};
    CHECK_EQUAL(semop(semaphores, &take, 1), 0);
}

static void wait_message(void)
{
    struct { long type; char text[8]; } message;
    CHECK_EQUAL(msgrcv(queue, &message, 8, 1, 0), 8);
}

static void wait_signal(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK_EQUAL(sigwaitinfo(&set, NULL), SIGUSR2);
}

static void wait_pause(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
    CHECK(pause() == -1 && errno == EINTR);
}

static void wait_child(void)
{
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    child = pid;
    CHECK(pid > 0 && close(ends[0]) == 0);
    CHECK_EQUAL(wait4(pid, NULL, 0, NULL), pid);
}

/* Real time, as clocks leave this file alone (proc(5)). By how much these have been moved when a wait
 * ends, or for how long they have stood still, depends on how busy the machine is. The limit is a whole
 * number of the file's units. */
static int64_t uptime_ns(void)
{
    char text[64], *hundredths;
    int fd = open("/proc/uptime", O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text) > 0 && close(fd) == 0);
    int64_t seconds = strtoll(text, &hundredths, 10);
    return seconds * NSEC_PER_SEC + strtoll(hundredths + 1, NULL, 10) * NSEC_PER_SEC / 100;
}

static void check_limit(int64_t start)
{
    CHECK(uptime_ns() - start >= LIMIT_NS);
}

static struct timespec limit_from(int64_t ns)
{
    ns += LIMIT_NS;
    return (struct timespec){.tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC};
}

static void limit_nanosleep(void)
{
    int64_t start = uptime_ns();
    struct timespec limit = limit_from(0);
    CHECK_EQUAL(nanosleep(&limit, NULL), 0);
    check_limit(start);
}

static void limit_clock_nanosleep(void)
{
    int64_t start = uptime_ns();
    struct timespec limit = limit_from(clock_ns(CLOCK_REALTIME));
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &limit, NULL), 0);
    check_limit(start);
}

static void limit_condition(void)
{
    int64_t start = uptime_ns();
    struct timespec limit = limit_from(clock_ns(CLOCK_REALTIME));
    static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    CHECK(pthread_mutex_lock(&own) == 0);
    CHECK_EQUAL(pthread_cond_timedwait(&never, &own, &limit), ETIMEDOUT);
    check_limit(start);
}

static void limit_poll(void)
{
    int64_t start = uptime_ns();
    CHECK_EQUAL(poll(NULL, 0, LIMIT_NS / 1000000), 0);
    check_limit(start);
}

static void limit_epoll(void)
{
    int64_t start = uptime_ns();
    struct epoll_event event;
    CHECK_EQUAL(epoll_wait(epoll_create1(0), &event, 1, LIMIT_NS / 1000000), 0);
    check_limit(start);
}

typedef void function(void);
static function *const ways[] = {
    wait_epoll, wait_poll, wait_select, wait_read, wait_write, wait_receive, wait_accept,
    wait_condition, wait_semaphore, wait_semop, wait_message, wait_signal, wait_pause, wait_child,
};
static function *const limits[] = {
    limit_nanosleep, limit_clock_nanosleep, limit_condition, limit_poll, limit_epoll,
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void *way(void *argument)
{
    long i = (long)argument;
    ways[i]();
    CHECK(may_end);
    return NULL;
}

static void *limit(void *argument)
{
    limits[(long)argument]();
    return NULL;
}

static void handle(int number)
{
    (void)number;
}

int main(void)
{
    pthread_t threads[COUNT(ways)], limited[COUNT(limits)];
    sigset_t set;
    char data[4096] = "data";
    struct { long type; char text[8]; } message = {.type = 1};
    struct sembuf give = {.sem_op = 1};
    struct sigaction action = {.sa_handler = handle};

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(pipe(epoll_pipe) == 0 && pipe(poll_pipe) == 0 && pipe(select_pipe) == 0);
    CHECK(pipe(read_pipe) == 0 && pipe(full_pipe) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    for (int i = 0; i < 16; i++)
        CHECK_EQUAL(write(full_pipe[1], data, sizeof data), sizeof data);
    CHECK((listener = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "attach_waits-%d", getpid());
    CHECK(bind(listener, (void *)&address, sizeof address) == 0 && listen(listener, 1) == 0);
    CHECK(sem_init(&semaphore, 0, 0) == 0);
    CHECK((semaphores = semget(IPC_PRIVATE, 1, 0600)) >= 0);
    CHECK((queue = msgget(IPC_PRIVATE, 0600)) >= 0);
    for (size_t i = 0; i < COUNT(ways); i++)
        CHECK(pthread_create(&threads[i], NULL, way, (void *)i) == 0);
    for (size_t i = 0; i < COUNT(limits); i++)
        CHECK(pthread_create(&limited[i], NULL, limit, (void *)i) == 0);

    CHECK(write(1, "up\n", 3) == 3);
    CHECK(read(0, data + 8, 1) == 1);
    may_end = 1;
    CHECK(write(epoll_pipe[1], "x", 1) == 1 && write(poll_pipe[1], "x", 1) == 1);
    CHECK(write(select_pipe[1], "x", 1) == 1 && write(read_pipe[1], "data", 4) == 4);
    CHECK(read(full_pipe[0], data, sizeof data) > 0);
    CHECK(send(pair[1], "x", 1, 0) == 1);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(client, (void *)&address, sizeof address) == 0);
    CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_cond_broadcast(&condition) == 0);
    CHECK(pthread_mutex_unlock(&mutex) == 0 && sem_post(&semaphore) == 0);
    CHECK(semop(semaphores, &give, 1) == 0 && msgsnd(queue, &message, 8, 0) == 0);
    for (size_t i = 0; i < COUNT(ways); i++) {
        if (ways[i] == wait_signal)
            CHECK(pthread_kill(threads[i], SIGUSR2) == 0);
        if (ways[i] == wait_pause)
            CHECK(pthread_kill(threads[i], SIGUSR1) == 0);
    }
    CHECK(kill(child, SIGKILL) == 0);
    for (size_t i = 0; i < COUNT(ways); i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (size_t i = 0; i < COUNT(limits); i++)
        CHECK(pthread_join(limited[i], NULL) == 0);
    CHECK(semctl(semaphores, 0, IPC_RMID) == 0 && msgctl(queue, IPC_RMID, NULL) == 0);
    return success();
}
