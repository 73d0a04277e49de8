/* many_timers COUNT: so many timerfds are armed for an hour and more, and nobody reads them. */
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    for (int i = argc > 1 ? atoi(argv[1]) : 1; i > 0; i--) {
        struct itimerspec once = {{0, 0}, {1000000 + i, 0}};
        int timer = timerfd_create(CLOCK_MONOTONIC, 0);
        if (timer < 0 || timerfd_settime(timer, 0, &once, NULL) != 0)
            return 1;
    }
    pause();
    return 0;
}
