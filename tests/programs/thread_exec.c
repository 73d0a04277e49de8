// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386,i386-dynamic bare=fails
/* A hundred threads read the clock; then one that is not the leader executes. It takes over the
 * leader's pid (execve(2)), the others are gone, and the new program reads the clock. */
#include "check.h"
#include <dirent.h>
#include <pthread.h>

enum { THREADS = 100 };

static char **arguments;
static pthread_barrier_t ready;

static void *run(void *number)
{
    check_wall(start_ns(arguments));
    pthread_barrier_wait(&ready);
    if ((intptr_t)number == THREADS / 2) {
        char pid[16];
        snprintf(pid, sizeof pid, "%d", getpid());
        CHECK(gettid() != getpid());
        exec_role(arguments, pid);
    }
    for (;;)
        clock_ns(CLOCK_REALTIME);
}

static int count_threads(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    for (struct dirent *entry; (entry = readdir(tasks));)
        count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

int main(int argc, char **argv)
{
    pthread_attr_t attributes;
    pthread_t thread;

    check_wall(start_ns(argv));
    if (argc == 4) {
        CHECK_EQUAL(getpid(), atoi(argv[3]));
        CHECK_EQUAL(gettid(), getpid());
        CHECK_EQUAL(count_threads(), 1);
        return success();
    }
    arguments = argv;
    CHECK(pthread_barrier_init(&ready, NULL, THREADS + 1) == 0);
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, 131072) == 0);
    for (intptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread, &attributes, run, (void *)i) == 0);
    pthread_barrier_wait(&ready);
    for (;;)
        pause();
}
