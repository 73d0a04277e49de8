// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 bare=passes
// run: start=1970-01-01T00:00:00Z waits=real on=static bare=never
// run: start=1970-01-01T00:00:00Z native=no bare=never
/* Calls without an end of their own that Linux ends for anything that wakes them (signal(7)): an ignored signal does
 * not, a handler and a stop of the process do, at whatever moment the next signal comes. */
#include "elapse.h"
#include <linux/aio_abi.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>

static struct scene { volatile int calls, handled; long results[2]; } *scene;
static int ends[2], epoll_fd, semaphore, sockets[2];
static aio_context_t context;

static void on_signal(int number)
{
    /* Ignored, and blocked as all are here: it comes right behind the call. */
    CHECK(number != SIGUSR2 || raise(SIGWINCH) == 0);
    scene->handled++;
}

static long call_epoll(void)
{
    struct epoll_event event;
    return epoll_wait(epoll_fd, &event, 1, -1);
}

static long call_semop(void)
{
    struct sembuf take = {.sem_op = -1};
    return semop(semaphore, &take, 1);
}

static long call_sigwait(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    return syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8L); /* musl makes it again */
}

static long call_getevents(void)
{
    struct io_event event;
    return syscall(SYS_io_getevents, context, 1L, 1L, &event, NULL);
}

/* One that has a time limit. */
__attribute__((unused)) static long call_receive(void)
{
    char byte;
    return recv(sockets[0], &byte, 1, 0);
}

static void prepare(void)
{
    struct timeval limit = {.tv_sec = 1000};
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(pipe(ends) == 0 && (epoll_fd = epoll_create1(0)) >= 0);
    CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, ends[0], &event) == 0);
    CHECK((semaphore = semget(IPC_PRIVATE, 1, 0600)) >= 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
}

static void end_epoll(pid_t pid) { (void)pid; CHECK(write(ends[1], "x", 1) == 1); }
static void end_sigwait(pid_t pid) { CHECK(kill(pid, SIGRTMIN) == 0); }
__attribute__((unused)) static void end_receive(pid_t pid) { (void)pid; CHECK(write(sockets[1], "x", 1) == 1); }
static void end_semop(pid_t pid)
{
    struct sembuf give = {.sem_op = 1};
    (void)pid;
    CHECK(semop(semaphore, &give, 1) == 0);
}

static const struct way { long (*call)(void); void (*end)(pid_t); } ways[] = {
    {call_epoll, end_epoll}, {call_semop, end_semop}, {call_sigwait, end_sigwait}, {call_getevents, NULL},
#ifndef __aarch64__ /* where the kernel hides which call it has ended */
    {call_receive, end_receive},
#endif
};

/* It is in its call number `calls`, and sleeps. */
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
        if (state == 'Z') /* ended by what should not have */
            CHECK_EQUAL(scene->results[calls - 1], 0);
    }
}

/* A child that makes two such calls. */
static pid_t start(const struct way *way)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigset_t set;
    memset(scene, 0, sizeof *scene);
    prepare();
    pid_t pid = fork();
    if (pid)
        return pid;
    sigfillset(&action.sa_mask);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGUSR2, &action, NULL) == 0);
    CHECK(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(syscall(SYS_io_setup, 4, &context) == 0);
    for (int i = 0; i < 2; i++) {
        scene->calls++;
        scene->results[i] = way->call() < 0 ? -errno : 0;
        if (i == 0 && way->call == call_epoll && scene->results[0] == 0)
            CHECK(read(ends[0], &i, 1) == 1 && (i = 0) == 0);
    }
    _exit(0);
}

static void finish(pid_t pid, long first, long second)
{
    check_child(pid);
    CHECK_EQUAL(scene->results[0], first);
    CHECK_EQUAL(scene->results[1], second);
    CHECK(semctl(semaphore, 0, IPC_RMID) == 0);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0 && close(epoll_fd) == 0);
    CHECK(close(sockets[0]) == 0 && close(sockets[1]) == 0);
}

static void check_way(const struct way *way)
{
    /* What is ignored ends nothing, before a handler and after. */
    pid_t pid = start(way);
    wait_until_asleep(pid, 1);
    CHECK(kill(pid, SIGWINCH) == 0);
    wait_until_asleep(pid, 1);
    CHECK(kill(pid, SIGHUP) == 0 && kill(pid, SIGUSR1) == 0);
    wait_until_asleep(pid, 2);
    CHECK_EQUAL(scene->handled, 1);
    CHECK(kill(pid, SIGWINCH) == 0);
    wait_until_asleep(pid, 2);
    CHECK(kill(pid, SIGHUP) == 0);
    if (way->end)
        way->end(pid);
    else
        CHECK(kill(pid, SIGUSR1) == 0);
    finish(pid, -EINTR, way->end ? 0 : -EINTR);

    /* One that comes as the handler returns does not hide that this has ended the call. */
    pid = start(way);
    wait_until_asleep(pid, 1);
    CHECK(kill(pid, SIGUSR2) == 0);
    wait_until_asleep(pid, 2);
    CHECK(kill(pid, SIGUSR2) == 0);
    finish(pid, -EINTR, -EINTR);
    CHECK_EQUAL(scene->handled, 2);

    /* Nor does the one that lets it go on, that a stop has. */
    pid = start(way);
    for (int calls = 1; calls <= 2; calls++) {
        int status;
        wait_until_asleep(pid, calls);
        CHECK(kill(pid, SIGSTOP) == 0);
        CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
        CHECK(kill(pid, SIGCONT) == 0);
    }
    finish(pid, -EINTR, -EINTR);
}

int main(void)
{
    scene = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(scene != MAP_FAILED);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        check_way(&ways[i]);
    return success();
}
