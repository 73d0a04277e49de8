/* A thread sets a timer again and again while its process ends. */
#include <pthread.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static void *set_often(void *unused)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    for (long ns = 1;; ns = ns % 1000000 + 1) {
        struct itimerspec spec = {{5, 0}, {1 + ns % 7, ns}};
        timerfd_settime(fd, 0, &spec, NULL);
    }
    return unused;
}

int main(void)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, set_often, NULL) != 0)
            return 1;
    for (volatile int i = 0; i < 300000; i++)
        ;
    _exit(0);
}
