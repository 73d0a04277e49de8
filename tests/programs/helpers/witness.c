/* Threads that sleep and look at the clock all the time, and with an argument a child with such threads. For each byte on
 * its standard input it says what time it is and how often each thread of each process has looked. Ends at the end of its input, and so does the child. */
#include "../check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { THREADS = 2, PROCESSES = 2 };

static volatile long (*looks)[THREADS];

static void *look(void *argument)
{
    const struct timespec moment = {.tv_nsec = 3000000};
    volatile long *count = argument;
    for (;;) {
        clock_ns(CLOCK_REALTIME);
        clock_ns(CLOCK_MONOTONIC);
        nanosleep(&moment, NULL);
        ++*count;
    }
}

static void start_threads(int process)
{
    pthread_t thread;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread, NULL, look, (void *)&looks[process][i]) == 0);
}

int main(int argc, char **argv)
{
    int processes = argc > 1 ? PROCESSES : 1;
    pid_t own = getpid();
    char byte;
    (void)argv;
    looks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(looks != MAP_FAILED);
    if (processes > 1 && fork() == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == own);
        start_threads(1);
        for (;;)
            pause();
    }
    start_threads(0);
    do {
        dprintf(1, "%lld", clock_ns(CLOCK_REALTIME));
        for (int i = 0; i < processes; i++)
            for (int j = 0; j < THREADS; j++)
                dprintf(1, " %ld", looks[i][j]);
        dprintf(1, "\n");
    } while (read(0, &byte, 1) == 1);
    return 0;
}
