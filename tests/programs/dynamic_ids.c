// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* Clock ids that are made, not named (clock_getcpuclockid(3), FD_TO_CLOCKID in clock_getres(2)): CPU
 * time of the living is real, of the dead is EINVAL, and so are files that are no clocks. Of a register
 * the kernel takes the lower half as the id. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#define FD_TO_CLOCKID(fd) ((clockid_t)(~(unsigned)(fd) << 3 | 3))

static clockid_t thread_cpu;

static void *end_at_once(void *unused)
{
    CHECK(pthread_getcpuclockid(pthread_self(), &thread_cpu) == 0);
    CHECK(clock_ns(thread_cpu) < 60 * NSEC_PER_SEC);
    return unused;
}

static void check_invalid(long id)
{
    struct timespec ts = {-1, -1}, soon = {1, 0};
    timer_t timer;
    CHECK(syscall(SYS_clock_gettime, id, &ts) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clock_gettime, id, NULL) == -1 && errno == EINVAL);
    CHECK(clock_gettime(id, &ts) == -1 && errno == EINVAL);
    CHECK(ts.tv_sec == -1 && ts.tv_nsec == -1);
    CHECK(syscall(SYS_clock_settime, id, &soon) == -1 && (errno == EINVAL || errno == EPERM));
    CHECK(syscall(SYS_clock_nanosleep, id, TIMER_ABSTIME, &soon, NULL) == -1);
    CHECK(errno == EINVAL || errno == EOPNOTSUPP);
    CHECK(syscall(SYS_timer_create, id, NULL, &timer) == -1 && (errno == EINVAL || errno == EOPNOTSUPP));
}

int main(int argc, char **argv)
{
    pthread_t thread;
    clockid_t cpu;
    CHECK(argc == 3);
    check_wall(start_ns(argv));

    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    CHECK(clock_getcpuclockid(pid, &cpu) == 0);
    CHECK(clock_ns(cpu) < 60 * NSEC_PER_SEC);
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    check_invalid(cpu);
    CHECK(pthread_create(&thread, NULL, end_at_once, NULL) == 0 && pthread_join(thread, NULL) == 0);
    for (int tries = 0; tries < 1000; tries++) { /* the kernel's end of it comes after the join */
        struct timespec ts;
        if (syscall(SYS_clock_gettime, thread_cpu, &ts) == -1)
            break;
        usleep(1000);
    }
    check_invalid(thread_cpu);

    int fd = open("/dev/null", O_RDONLY);
    CHECK(fd >= 0);
    check_invalid(FD_TO_CLOCKID(fd));
    CHECK(close(fd) == 0);
    check_invalid(FD_TO_CLOCKID(fd));
    check_invalid(FD_TO_CLOCKID(0x0fffffff));

    struct timespec ts;
    CHECK(syscall(SYS_clock_gettime, 0xdeadbeef00000000, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), start_ns(argv));
    CHECK(syscall(SYS_clock_gettime, 0x7fffffff00000001, &ts) == 0);
    CHECK(llabs(in_ns(ts) - clock_ns(CLOCK_MONOTONIC)) < 60 * NSEC_PER_SEC);
    CHECK(syscall(SYS_clock_gettime, 0x00000001000003e8, &ts) == -1 && errno == EINVAL);
    check_move(argv);
    return success();
}
