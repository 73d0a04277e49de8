// built: on=static,i386
/* Threads that start and end all the time, a signal handler that comes into everything, and readings
 * in between. Ends at the end of its standard input, with EXIT-SUCCESS. */
#include "../check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

static _Atomic int done;

static void handle(int number)
{
    struct timespec ts;
    (void)number;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
}

static void *reader(void *argument)
{
    for (int i = 0; i < 200; i++) {
        int64_t before = clock_ns(CLOCK_BOOTTIME);
        CHECK(clock_ns(CLOCK_REALTIME) >= 1000 * NSEC_PER_SEC && before > 0);
    }
    return argument;
}

static void *starter(void *argument)
{
    pthread_t thread;
    while (!done) {
        CHECK(pthread_create(&thread, NULL, reader, argument) == 0);
        reader(NULL);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    return NULL;
}

int main(void)
{
    pthread_t starters[3];
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    struct itimerval often = {.it_interval.tv_usec = 300, .it_value.tv_usec = 300};
    char byte;

    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&starters[i], NULL, starter, NULL) == 0);
    CHECK(write(1, "up\n", 3) == 3);
    CHECK(read(0, &byte, 1) == 0);
    done = 1;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(starters[i], NULL) == 0);
    return success();
}
