// run: start=1970-01-01T00:10:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:10:00Z on=static,dynamic,i386 args=flowing bare=never
// run: start=1970-01-01T00:10:00Z autojump=yes on=static,dynamic,i386 args=jumping bare=never
/* What becomes of timers at fork and exec, and of a timerfd that several processes hold. */
#include "elapse.h"
#include <signal.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#ifndef SYS_timer_gettime /* musl has one for each width */
#define SYS_timer_gettime SYS_timer_gettime64
#endif

static struct {
    volatile int fired;
    int64_t at_ns;
} *shared;

static void arm_itimer(int64_t ns)
{
    struct timespec value = timespec_of(ns);
    struct itimerval spec = {.it_value = {value.tv_sec, value.tv_nsec / 1000}};
    CHECK(setitimer(ITIMER_REAL, &spec, NULL) == 0);
}

static int64_t itimer_left_ns(void)
{
    struct itimerval left;
    CHECK(getitimer(ITIMER_REAL, &left) == 0);
    return left.it_value.tv_sec * NSEC_PER_SEC + (int64_t)left.it_value.tv_usec * 1000;
}

static int open_timerfd(int flags, int64_t ns)
{
    struct itimerspec spec = {.it_value = timespec_of(ns)};
    int fd = timerfd_create(CLOCK_MONOTONIC, flags);
    CHECK(fd >= 0 && timerfd_settime(fd, 0, &spec, NULL) == 0);
    return fd;
}

static int64_t timerfd_left_ns(int fd)
{
    struct itimerspec left;
    CHECK(timerfd_gettime(fd, &left) == 0);
    return in_ns(left.it_value);
}

static void on_alarm(int number)
{
    (void)number;
    shared->fired++;
    shared->at_ns = now_ns();
}

/* The timers of a process are not those of its children. */
static void check_fork(void)
{
    timer_t timer;
    sigset_t set, pending;
    struct itimerspec spec = {.it_value = timespec_of(length_ns)}, left;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    int64_t from_ns = now_ns();
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(timer_create(CLOCK_REALTIME, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &spec, NULL) == 0);
    arm_itimer(length_ns);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQUAL(itimer_left_ns(), 0);
        CHECK(timer_gettime(timer, &left) == -1 && errno == EINVAL);
        sleep_ns(2 * length_ns);
        CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGUSR1));
        _exit(0);
    }
    elapse_past(length_ns);
    CHECK_EQUAL(shared->fired, 1); /* by this process alone */
    CHECK_ELAPSED(shared->at_ns - from_ns, length_ns);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
    if (is_asked())
        elapse(2 * length_ns);
    check_child(pid);
    CHECK_EQUAL(shared->fired, 1);
    CHECK(sigwaitinfo(&set, NULL) == SIGUSR1);
    CHECK(timer_delete(timer) == 0);
}

/* A child's own: they end with it, and others' go on. */
static void check_children(void)
{
    shared->fired = 0;
    arm_itimer(2 * length_ns);
    pid_t pid = fork();
    if (pid == 0) {
        arm_itimer(length_ns);
        open_timerfd(0, length_ns);
        _exit(0);
    }
    check_child(pid);
    elapse(length_ns);
    CHECK_NOT_YET(shared->fired);
    CHECK_LEFT(itimer_left_ns(), 2 * length_ns, length_ns);
    elapse_past(length_ns);
    CHECK_EQUAL(shared->fired, 1);
}

/* What a new program finds. Its alarm ends it. */
static void become(char **argv, char *role, int kept_fd, int closed_fd, int64_t at_ns)
{
    char fds[2][16], ns[32];
    snprintf(fds[0], sizeof fds[0], "%d", kept_fd);
    snprintf(fds[1], sizeof fds[1], "%d", closed_fd);
    snprintf(ns, sizeof ns, "%lld", (long long)at_ns);
    char *arguments[] = {argv[0], argv[1], argv[2], argv[3], role, fds[0], fds[1], ns, NULL};
    execv(SELF, arguments);
    CHECK(!"exec");
}

static int after_exec(char **argv)
{
    int fd = atoi(argv[5]), closed = atoi(argv[6]);
    int64_t from_ns = strtoll(argv[7], NULL, 10);
    uint64_t count;
    sigset_t set;
    long left[8];
    CHECK_LEFT(itimer_left_ns(), 3 * length_ns, now_ns() - from_ns - (course == FROZEN ? 0 : NSEC_PER_SEC));
    CHECK((timerfd_left_ns(fd) > 0 || course == BARE) && timerfd_left_ns(fd) <= length_ns); /* a busy machine may take as long to execute it */
    CHECK(fcntl(closed, F_GETFD) == -1 && errno == EBADF);
    CHECK(syscall(SYS_timer_gettime, 0, left) == -1 && errno == EINVAL);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
    CHECK_ELAPSED(now_ns() - from_ns, length_ns);
    /* SIGUSR1 is blocked still; the timer that would send it is gone. */
    struct timespec time = timespec_of(length_ns);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigtimedwait(&set, NULL, &time) == -1 && errno == EAGAIN);
    for (;;)
        pause();
}

static void check_exec(char **argv)
{
    int status;
    int64_t from_ns = now_ns();
    pid_t pid = fork();
    if (pid == 0) {
        timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
        struct itimerspec spec = {.it_value = timespec_of(length_ns + length_ns / 2)};
        from_ns = now_ns();
        CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
        CHECK(timer_settime(timer, 0, &spec, NULL) == 0);
        arm_itimer(3 * length_ns);
        int fd = open_timerfd(0, length_ns), closed = open_timerfd(TFD_CLOEXEC, length_ns);
        become(argv, "exec", fd, closed, from_ns);
    }
    if (is_asked()) {
        elapse(3 * length_ns - 60 * NSEC_PER_SEC);
        CHECK_EQUAL(waitpid(pid, &status, WNOHANG), 0);
        elapse(60 * NSEC_PER_SEC);
    }
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    CHECK_ELAPSED(now_ns() - from_ns, 3 * length_ns);
}

/* A timerfd belongs to all who hold it: one of them reads, and no other does. */
static void check_shared_timerfd(void)
{
    uint64_t count;
    int64_t from_ns = now_ns();
    int fd = open_timerfd(0, length_ns);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_LEFT(timerfd_left_ns(fd), length_ns, 0);
        CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
        CHECK_ELAPSED(now_ns() - from_ns, length_ns);
        struct itimerspec spec = {.it_value = timespec_of(2 * length_ns)};
        CHECK(timerfd_settime(fd, 0, &spec, NULL) == 0);
        _exit(0);
    }
    if (is_asked())
        elapse(length_ns);
    check_child(pid);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    CHECK(read(fd, &count, sizeof count) == -1 && errno == EAGAIN);
    /* What the child has set goes on. */
    CHECK_LEFT(timerfd_left_ns(fd), 2 * length_ns, 0);
    elapse_past(2 * length_ns);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
    close(fd);
}

static void send_fd(int socket, int fd)
{
    char byte = 0;
    union { char bytes[CMSG_SPACE(sizeof fd)]; struct cmsghdr header; } control = {0};
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    CHECK(sendmsg(socket, &message, 0) == 1);
}

static int receive_fd(int socket)
{
    char byte;
    int fd;
    union { char bytes[CMSG_SPACE(sizeof fd)]; struct cmsghdr header; } control = {0};
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    CHECK(recvmsg(socket, &message, 0) == 1 && control.header.cmsg_type == SCM_RIGHTS);
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return fd;
}

/* It outlives the process that made it and set it. */
static void check_sent_timerfd(void)
{
    int sockets[2];
    uint64_t count;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        send_fd(sockets[1], open_timerfd(0, length_ns));
        _exit(0);
    }
    int fd = receive_fd(sockets[0]);
    check_child(pid);
    CHECK_LEFT(timerfd_left_ns(fd), length_ns, 0);
    elapse_past(length_ns);
    CHECK_EQUAL(timerfd_left_ns(fd), 0);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
    /* A copy of the descriptor is the same timer. */
    int copy = dup(fd);
    struct itimerspec spec = {.it_value = timespec_of(length_ns)};
    CHECK(timerfd_settime(copy, 0, &spec, NULL) == 0);
    close(copy);
    elapse_past(length_ns);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
    close(fd);
}

int main(int argc, char **argv)
{
    read_course(argv, 40000000);
    if (argc > 4)
        return after_exec(argv);
    shared = shared_memory(sizeof *shared);
    check_fork();
    check_children();
    check_exec(argv);
    check_shared_timerfd();
    check_sent_timerfd();
    return success();
}
