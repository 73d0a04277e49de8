// run: start=1970-01-01T00:00:01Z on=static,i386 bare=passes
// run: start=2000-01-01T00:00:00Z rate=2 monotonic=rate on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z autojump=yes on=static bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=static,i386 bare=never
/* Memory that is closed to everyone but the program (memfd_secret(2)), its tracer too. A call that has to do
 * with it does what it would alone, or fails with EFAULT; nobody comes to harm. */
#include "pointers.h"
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#ifndef __NR_memfd_secret
#define __NR_memfd_secret 447
#endif

#define TRY_SECRET(name, ...) check(#name, syscall(__NR_##name, __VA_ARGS__))

static char *secret;

static void check(const char *name, long result)
{
    if (result == -1 && errno != EFAULT) {
        dprintf(2, "%s: %s\n", name, strerror(errno));
        failures++;
    }
    trials++;
}

/* In its first bytes. */
static void put(const void *data, size_t size)
{
    memset(secret, 0, PAGE);
    memcpy(secret, data, size);
}

int main(int argc, char **argv)
{
    const long moment[] = {0, 500000}, spec[] = {0, 0, 100, 0};
    const struct sigevent event = {.sigev_notify = SIGEV_NONE};
    struct pollfd none = {.fd = -1};
    struct timespec now;
    int sockets[2], timer = 0, fd = syscall(__NR_memfd_secret, 0);
    CHECK(argc >= 3 && argv[2]);
    if (fd == -1) { /* before Linux 5.14, or not enabled */
        CHECK(errno == ENOSYS);
        return success();
    }
    CHECK(ftruncate(fd, PAGE) == 0);
    secret = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(secret != MAP_FAILED);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets) == 0);
    int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    CHECK(timer_fd >= 0);

    TRY_SECRET(clock_gettime, CLOCK_REALTIME, secret);
    TRY_SECRET(gettimeofday, secret, NULL);
    TRY_SECRET(times, secret);
    TRY_SECRET(sysinfo, secret);
    memset(secret, 0, PAGE);
    TRY_SECRET(adjtimex, secret);
    TRY_SECRET(timerfd_settime, timer_fd, 0, spec, secret);
    TRY_SECRET(timerfd_gettime, timer_fd, secret);
    put(spec, sizeof spec);
    TRY_SECRET(timerfd_settime, timer_fd, 0, secret, NULL);
    TRY_SECRET(timer_create, CLOCK_REALTIME, NULL, secret);
    put(&event, sizeof event);
    TRY_SECRET(timer_create, CLOCK_REALTIME, secret, &timer);
    TRY_SECRET(timer_settime, timer, 0, spec, secret);
    TRY_SECRET(timer_gettime, timer, secret);
    TRY_SECRET(setitimer, ITIMER_REAL, spec, secret);
    TRY_SECRET(getitimer, ITIMER_REAL, secret);
    put(moment, sizeof moment);
    TRY_SECRET(nanosleep, secret, secret);
    put(moment, sizeof moment);
    TRY_SECRET(clock_nanosleep, CLOCK_REALTIME, 0, secret, NULL);
    put(moment, sizeof moment);
    TRY_SECRET(ppoll, &none, 1, secret, NULL, 0);
    put(moment, sizeof moment);
    TRY_SECRET(pselect6, 0, NULL, NULL, NULL, secret, NULL);
    put(moment, sizeof moment);
    TRY_SECRET(setsockopt, sockets[0], SOL_SOCKET, 20, secret, sizeof moment);
    TRY_SECRET(getsockopt, sockets[0], SOL_SOCKET, 20, secret, secret + 64);
    CHECK(syscall(__NR_clock_gettime, CLOCK_MONOTONIC, &now) == 0);
    return all_were_right();
}
