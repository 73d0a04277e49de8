// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,dynamic,i386,i386-dynamic args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 args=flowing bare=never
// run: start=2000-01-01T00:00:00Z rate=3600 monotonic=rate on=static,dynamic args=fast bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes on=static,dynamic,i386 args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=dynamic args=bare bare=never
/* The waits of the C library: each ends when its time is up, with its own result. */
#include "elapse.h"
#include <mqueue.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <threads.h>

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER, held_pi, own = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t held_rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER, cond_monotonic;
static mtx_t own_mtx, held_mtx;
static cnd_t cnd;
static sem_t empty;
static pthread_t holder;
static int pipe_fds[2], never[2], epoll_fd, sockets[2], semaphore;
static mqd_t queue;

static struct timespec after(clockid_t id)
{
    return timespec_of(clock_ns(id) + length_ns);
}

/* Each returns 0, or an error number. */
static int by_return(long result)
{
    return result == -1 ? errno : result;
}

static int wait_sleep(void) { return sleep((length_ns + NSEC_PER_SEC - 1) / NSEC_PER_SEC); }
static int wait_usleep(void)
{
    useconds_t half = length_ns / 2000; /* two hours are too much for one */
    return by_return(usleep(half)) || by_return(usleep(half));
}
static int wait_nanosleep(void)
{
    struct timespec time = timespec_of(length_ns), rest = {77, 77};
    int result = by_return(nanosleep(&time, &rest));
    CHECK(rest.tv_sec == 77 && rest.tv_nsec == 77);
    return result;
}
static int wait_thrd_sleep(void)
{
    struct timespec time = timespec_of(length_ns);
    return thrd_sleep(&time, NULL);
}
static int wait_clock_nanosleep(void)
{
    struct timespec time = timespec_of(length_ns);
    return clock_nanosleep(CLOCK_REALTIME, 0, &time, NULL);
}
static int wait_until_wall(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, NULL);
}
static int wait_until_monotonic(void)
{
    struct timespec time = after(CLOCK_MONOTONIC);
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}
static int wait_poll(void)
{
    struct pollfd fd = {.fd = pipe_fds[0], .events = POLLIN};
    return by_return(poll(&fd, 1, length_ns / 1000000));
}
static int wait_ppoll(void)
{
    struct pollfd fd = {.fd = pipe_fds[0], .events = POLLIN};
    const struct timespec time = timespec_of(length_ns);
    return by_return(ppoll(&fd, 1, &time, NULL));
}
static int wait_select(void)
{
    fd_set set;
    struct timeval time = {length_ns / NSEC_PER_SEC, length_ns % NSEC_PER_SEC / 1000};
    FD_ZERO(&set);
    FD_SET(pipe_fds[0], &set);
    int result = by_return(select(pipe_fds[0] + 1, &set, NULL, NULL, &time));
    CHECK(!FD_ISSET(pipe_fds[0], &set));
    return result;
}
static int wait_pselect(void)
{
    fd_set set;
    struct timespec time = timespec_of(length_ns);
    FD_ZERO(&set);
    FD_SET(pipe_fds[0], &set);
    int result = by_return(pselect(pipe_fds[0] + 1, &set, NULL, NULL, &time, NULL));
    CHECK(!FD_ISSET(pipe_fds[0], &set));
    CHECK(in_ns(time) == length_ns); /* this function is not to change it, whatever its call does */
    return result;
}
static int wait_epoll(void)
{
    struct epoll_event event;
    return by_return(epoll_wait(epoll_fd, &event, 1, length_ns / 1000000));
}
static int wait_epoll_pwait(void)
{
    struct epoll_event event;
    sigset_t none;
    sigemptyset(&none);
    return by_return(epoll_pwait(epoll_fd, &event, 1, length_ns / 1000000, &none));
}
static int wait_cond(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    CHECK(pthread_mutex_lock(&own) == 0);
    int result = pthread_cond_timedwait(&cond, &own, &time);
    CHECK(pthread_mutex_unlock(&own) == 0);
    return result;
}
static int wait_cond_monotonic(void)
{
    struct timespec time = after(CLOCK_MONOTONIC);
    CHECK(pthread_mutex_lock(&own) == 0);
    int result = pthread_cond_timedwait(&cond_monotonic, &own, &time);
    CHECK(pthread_mutex_unlock(&own) == 0);
    return result;
}
static int wait_cnd(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    CHECK(mtx_lock(&own_mtx) == thrd_success);
    int result = cnd_timedwait(&cnd, &own_mtx, &time);
    CHECK(mtx_unlock(&own_mtx) == thrd_success);
    return result == thrd_timedout ? ETIMEDOUT : 0;
}
static int wait_mutex(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    return pthread_mutex_timedlock(&held, &time);
}
static int wait_mutex_pi(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    return pthread_mutex_timedlock(&held_pi, &time);
}
static int wait_mtx(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    return mtx_timedlock(&held_mtx, &time) == thrd_timedout ? ETIMEDOUT : 0;
}
static int wait_rdlock(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    return pthread_rwlock_timedrdlock(&held_rwlock, &time);
}
static int wait_wrlock(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    return pthread_rwlock_timedwrlock(&held_rwlock, &time);
}
static int wait_sem(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    return by_return(sem_timedwait(&empty, &time));
}
static int wait_join(void)
{
    struct timespec time = after(CLOCK_REALTIME);
    return pthread_timedjoin_np(holder, NULL, &time);
}
#ifdef __GLIBC__
static int wait_cond_clock(void)
{
    struct timespec time = after(CLOCK_MONOTONIC);
    CHECK(pthread_mutex_lock(&own) == 0);
    int result = pthread_cond_clockwait(&cond, &own, CLOCK_MONOTONIC, &time);
    CHECK(pthread_mutex_unlock(&own) == 0);
    return result;
}
static int wait_mutex_clock(void)
{
    struct timespec time = after(CLOCK_MONOTONIC);
    return pthread_mutex_clocklock(&held, CLOCK_MONOTONIC, &time);
}
static int wait_rdlock_clock(void)
{
    struct timespec time = after(CLOCK_MONOTONIC);
    return pthread_rwlock_clockrdlock(&held_rwlock, CLOCK_MONOTONIC, &time);
}
static int wait_wrlock_clock(void)
{
    struct timespec time = after(CLOCK_MONOTONIC);
    return pthread_rwlock_clockwrlock(&held_rwlock, CLOCK_MONOTONIC, &time);
}
static int wait_sem_clock(void)
{
    struct timespec time = after(CLOCK_MONOTONIC);
    return by_return(sem_clockwait(&empty, CLOCK_MONOTONIC, &time));
}
#endif
static int wait_signal(void)
{
    sigset_t set;
    struct timespec time = timespec_of(length_ns);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return by_return(sigtimedwait(&set, NULL, &time));
}
static int wait_semop(void)
{
    struct sembuf take = {0, -1, 0};
    struct timespec time = timespec_of(length_ns);
    return by_return(semtimedop(semaphore, &take, 1, &time));
}
static int wait_message(void)
{
    char letter[16];
    struct timespec time = after(CLOCK_REALTIME);
    return by_return(mq_timedreceive(queue, letter, sizeof letter, NULL, &time));
}
static int wait_recv(void)
{
    char byte;
    struct timeval time = {length_ns / NSEC_PER_SEC, length_ns % NSEC_PER_SEC / 1000};
    CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    return by_return(recv(sockets[0], &byte, 1, 0));
}
static int wait_timerfd(void)
{
    uint64_t count = 0;
    struct itimerspec spec = {.it_value = timespec_of(length_ns)};
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    CHECK(fd >= 0 && timerfd_settime(fd, 0, &spec, NULL) == 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count);
    close(fd);
    return count - 1;
}

static const struct wait {
    const char *name;
    int (*wait)(void);
    int expired;
} waits[] = {
    {"nanosleep", wait_nanosleep, 0},
    {"usleep", wait_usleep, 0},
    {"thrd_sleep", wait_thrd_sleep, 0},
    {"clock_nanosleep", wait_clock_nanosleep, 0},
    {"clock_nanosleep, CLOCK_REALTIME", wait_until_wall, 0},
    {"clock_nanosleep, CLOCK_MONOTONIC", wait_until_monotonic, 0},
    {"poll", wait_poll, 0},
    {"ppoll", wait_ppoll, 0},
    {"select", wait_select, 0},
    {"pselect", wait_pselect, 0},
    {"epoll_wait", wait_epoll, 0},
    {"epoll_pwait", wait_epoll_pwait, 0},
    {"pthread_cond_timedwait", wait_cond, ETIMEDOUT},
    {"pthread_cond_timedwait, CLOCK_MONOTONIC", wait_cond_monotonic, ETIMEDOUT},
    {"cnd_timedwait", wait_cnd, ETIMEDOUT},
    {"pthread_mutex_timedlock", wait_mutex, ETIMEDOUT},
    {"pthread_mutex_timedlock, PTHREAD_PRIO_INHERIT", wait_mutex_pi, ETIMEDOUT},
    {"mtx_timedlock", wait_mtx, ETIMEDOUT},
    {"pthread_rwlock_timedrdlock", wait_rdlock, ETIMEDOUT},
    {"pthread_rwlock_timedwrlock", wait_wrlock, ETIMEDOUT},
    {"sem_timedwait", wait_sem, ETIMEDOUT},
    {"pthread_timedjoin_np", wait_join, ETIMEDOUT},
#ifdef __GLIBC__
    {"pthread_cond_clockwait", wait_cond_clock, ETIMEDOUT},
    {"pthread_mutex_clocklock", wait_mutex_clock, ETIMEDOUT},
    {"pthread_rwlock_clockrdlock", wait_rdlock_clock, ETIMEDOUT},
    {"pthread_rwlock_clockwrlock", wait_wrlock_clock, ETIMEDOUT},
    {"sem_clockwait", wait_sem_clock, ETIMEDOUT},
#endif
    {"sigtimedwait", wait_signal, EAGAIN},
    {"semtimedop", wait_semop, EAGAIN},
    {"mq_timedreceive", wait_message, ETIMEDOUT},
    {"recv", wait_recv, EAGAIN},
    {"timerfd", wait_timerfd, 0},
    {"sleep", wait_sleep, 0}, /* a second at least: skipped where it lasts as long as it says */
};
enum { WAITS = sizeof waits / sizeof *waits };

static struct running {
    pthread_t thread;
    const struct wait *wait;
    volatile int done;
    int64_t elapsed_ns;
} running[WAITS];

static void *run(void *argument)
{
    struct running *one = argument;
    int64_t from_ns = now_ns();
    errno = 0;
    int result = one->wait->wait();
    one->elapsed_ns = now_ns() - from_ns;
    if (result != one->wait->expired) {
        dprintf(2, "%s gave %d\n", one->wait->name, result);
        _exit(1);
    }
    one->done = 1;
    return NULL;
}

static void check_elapsed_of(const struct running *one)
{
    CHECK(one->done);
    if (one->elapsed_ns < length_ns)
        dprintf(2, "%s: ", one->wait->name);
    CHECK_ELAPSED(one->elapsed_ns, length_ns);
}

/* Holds for ever what others want. */
static void *hold(void *argument)
{
    CHECK(pthread_mutex_lock(&held) == 0 && pthread_mutex_lock(&held_pi) == 0);
    CHECK(pthread_rwlock_wrlock(&held_rwlock) == 0 && mtx_lock(&held_mtx) == thrd_success);
    CHECK(write(never[1], "", 1) == 1);
    for (;;)
        pause();
    return argument;
}

static void prepare(void)
{
    char name[40], byte;
    sigset_t set;
    pthread_mutexattr_t inherit;
    pthread_condattr_t monotonic;
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 16};
    CHECK(pipe(pipe_fds) == 0 && pipe(never) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    epoll_fd = epoll_create1(0);
    CHECK(pthread_mutexattr_init(&inherit) == 0);
    CHECK(pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT) == 0);
    CHECK(pthread_mutex_init(&held_pi, &inherit) == 0);
    CHECK(pthread_condattr_init(&monotonic) == 0);
    CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&cond_monotonic, &monotonic) == 0);
    CHECK(mtx_init(&own_mtx, mtx_plain) == thrd_success && mtx_init(&held_mtx, mtx_timed) == thrd_success);
    CHECK(cnd_init(&cnd) == thrd_success);
    CHECK(sem_init(&empty, 0, 0) == 0);
    semaphore = semget(IPC_PRIVATE, 1, 0600);
    CHECK(semaphore >= 0);
    snprintf(name, sizeof name, "/vdsotime-%d", getpid());
    queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
    CHECK(queue != (mqd_t)-1 && mq_unlink(name) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(pthread_create(&holder, NULL, hold, NULL) == 0);
    CHECK(read(never[0], &byte, 1) == 1);
}

/* Each in a thread, all of them at once; in worlds that go by themselves one after the other too. */
int main(int argc, char **argv)
{
    int count = WAITS;
    (void)argc;
    read_course(argv, 30000000);
    prepare();
    if (length_ns < NSEC_PER_SEC)
        count--;
    for (int i = 0; i < count; i++) {
        running[i].wait = &waits[i];
        if (!is_asked()) {
            run(&running[i]);
            check_elapsed_of(&running[i]);
        }
        running[i].done = 0;
    }
    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&running[i].thread, NULL, run, &running[i]) == 0);
    if (is_asked()) {
        elapse(length_ns - 60 * NSEC_PER_SEC);
        for (int i = 0; i < count; i++) {
            if (running[i].done)
                dprintf(2, "%s: ", waits[i].name);
            CHECK(!running[i].done);
        }
        elapse(60 * NSEC_PER_SEC);
        for (int i = 0; i < count; i++)
            check_elapsed_of(&running[i]);
    }
    for (int i = 0; i < count; i++) {
        CHECK(pthread_join(running[i].thread, NULL) == 0);
        check_elapsed_of(&running[i]);
    }
    CHECK(semctl(semaphore, 0, IPC_RMID) == 0);
    return success();
}
