// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 bare=fails
// run: start=2100-01-01T00:00:00.5Z bare=fails
// run: start=1969-12-31T23:59:59.9Z bare=fails
// run: start=2000-01-01T00:00:00Z rate=1 bare=fails
/* Waits until a point of a clock, computed from the clock as the program sees it, last as long as
 * they say: on the wall clock at once, on the monotonic one also after an hour was skipped. The
 * program's deadline stays as it is, even where it cannot be written. */
#include "check.h"
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

#define WAIT_NS 200000000LL
#define LONGEST_NS 5000000000LL

/* In a page that is read-only while the kernel reads it. */
static struct itimerspec *spec;
static struct timespec *deadline; /* the value of spec; its interval is zero */

static int64_t start(clockid_t id)
{
    int64_t started_ns = clock_ns(CLOCK_MONOTONIC), ns = clock_ns(id) + WAIT_NS;
    CHECK(mprotect(spec, 4096, PROT_READ | PROT_WRITE) == 0);
    *deadline = (struct timespec){ns / NSEC_PER_SEC, ns % NSEC_PER_SEC};
    CHECK(mprotect(spec, 4096, PROT_READ) == 0);
    return started_ns;
}

static void end(const char *what, int64_t started_ns)
{
    int64_t passed_ns = clock_ns(CLOCK_MONOTONIC) - started_ns;
    if (passed_ns < WAIT_NS - 1000000 || passed_ns > LONGEST_NS) {
        dprintf(2, "%s took %lld ns\n", what, (long long)passed_ns);
        _exit(1);
    }
}

static void wait_on_wall(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    int64_t started_ns;
    sem_t sem;

    started_ns = start(CLOCK_REALTIME);
    CHECK(pthread_mutex_lock(&lock) == 0);
    CHECK_EQUAL(pthread_cond_timedwait(&cond, &lock, deadline), ETIMEDOUT);
    CHECK(pthread_mutex_unlock(&lock) == 0);
    end("pthread_cond_timedwait", started_ns);

    CHECK(sem_init(&sem, 0, 0) == 0);
    started_ns = start(CLOCK_REALTIME);
    CHECK(sem_timedwait(&sem, deadline) == -1 && errno == ETIMEDOUT);
    end("sem_timedwait", started_ns);

    started_ns = start(CLOCK_REALTIME);
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, deadline, NULL), 0);
    end("clock_nanosleep", started_ns);

    uint32_t word = 1; /* held by init, which never lets go of it */
    started_ns = start(CLOCK_REALTIME);
    CHECK(syscall(SYS_futex, &word, 6 /* FUTEX_LOCK_PI */, 0, deadline, NULL, 0) == -1);
    CHECK(errno == ETIMEDOUT || errno == EPERM);
    if (errno == ETIMEDOUT)
        end("FUTEX_LOCK_PI", started_ns);
}

static void wait_for_timers(void)
{
    uint64_t count = 0;
    int64_t started_ns;
    timer_t timer;
    sigset_t set;
    siginfo_t info;

    int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
    CHECK(fd >= 0);
    started_ns = start(CLOCK_REALTIME);
    CHECK(timerfd_settime(fd, TFD_TIMER_ABSTIME, spec, NULL) == 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
    end("timerfd", started_ns);

    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(timer_create(CLOCK_REALTIME, &event, &timer) == 0);
    started_ns = start(CLOCK_REALTIME);
    CHECK(timer_settime(timer, TIMER_ABSTIME, spec, NULL) == 0);
    CHECK(sigwaitinfo(&set, &info) == SIGUSR1);
    end("timer_settime", started_ns);
    CHECK(timer_delete(timer) == 0);
}

static void wait_for_message(void)
{
    char name[40], buffer[16];
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = sizeof buffer};
    snprintf(name, sizeof name, "/vdsotime-%d", getpid());
    mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
    if (queue == (mqd_t)-1 && errno == ENOSYS)
        return; /* a kernel without CONFIG_POSIX_MQUEUE */
    CHECK(queue != (mqd_t)-1);
    CHECK(mq_unlink(name) == 0);
    int64_t started_ns = start(CLOCK_REALTIME);
    CHECK(mq_timedreceive(queue, buffer, sizeof buffer, NULL, deadline) == -1);
    CHECK_EQUAL(errno, ETIMEDOUT);
    end("mq_timedreceive", started_ns);
}

static void wait_on_monotonic(void)
{
    uint32_t word = 0;
    int64_t started_ns = start(CLOCK_MONOTONIC);
    CHECK_EQUAL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, deadline, NULL), 0);
    end("clock_nanosleep on CLOCK_MONOTONIC", started_ns);

    started_ns = start(CLOCK_MONOTONIC);
    CHECK(syscall(SYS_futex, &word, 9 | 128 /* FUTEX_WAIT_BITSET_PRIVATE */, 0, deadline, NULL, -1) == -1);
    CHECK_EQUAL(errno, ETIMEDOUT);
    end("FUTEX_WAIT_BITSET", started_ns);
}

static void on_alarm(int number)
{
    (void)number;
}

/* A signal ends the wait, or it goes on to the same point. */
static void wait_with_signals(void)
{
    struct itimerval soon = {.it_value.tv_usec = 50000};
    struct sigaction action = {.sa_handler = on_alarm};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    start(CLOCK_REALTIME);
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, deadline, NULL), EINTR);

    CHECK(signal(SIGALRM, SIG_IGN) != SIG_ERR);
    int64_t started_ns = start(CLOCK_REALTIME);
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, deadline, NULL), 0);
    end("clock_nanosleep with an ignored signal", started_ns);
}

static void wait_for_the_past(void)
{
    struct timespec past = {0, 1}, before = {-1, 0}, odd = {0, NSEC_PER_SEC};
    int64_t started_ns = clock_ns(CLOCK_MONOTONIC);
    if (clock_ns(CLOCK_REALTIME) > 1)
        CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &past, NULL), 0);
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &before, NULL), EINVAL);
    CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &odd, NULL), EINVAL);
    errno = 0;
    CHECK(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, (void *)8, NULL) == -1);
    CHECK_EQUAL(errno, EFAULT);
    CHECK(clock_ns(CLOCK_MONOTONIC) - started_ns < WAIT_NS);
}

int main(int argc, char **argv)
{
    char line[16];
    spec = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(spec != MAP_FAILED && argc == 3);
    deadline = &spec->it_value;
    int64_t off_ns = clock_ns(CLOCK_REALTIME) - strtoll(argv[1], NULL, 10);
    CHECK(off_ns >= 0 && off_ns < 60 * NSEC_PER_SEC);

    wait_on_wall();
    wait_for_message();
    wait_with_signals();
    wait_for_the_past();
    wait_on_monotonic();
    puts("MOVE");
    fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin));
    wait_on_monotonic();
    wait_on_wall();
    wait_for_timers();
    puts("EXIT-SUCCESS");
    return 0;
}
