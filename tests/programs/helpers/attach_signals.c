/* Waits for signals in a loop, in the way that its argument says, and writes a byte for each that its
 * handler has seen and its wait was ended by. Ends at SIGTERM, with EXIT-SUCCESS. */
#include "../check.h"
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

static volatile sig_atomic_t handled, is_over;

static void handle(int number)
{
    if (number == SIGTERM)
        is_over = 1;
    else
        handled++;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = handle};
    struct epoll_event event;
    int way = argc > 1 ? atoi(argv[1]) : 0, epoll = epoll_create1(0), seen = 0, result;
    sigset_t blocked, open;

    if (argc > 2)
        action.sa_flags = SA_RESTART; /* which these calls do not obey */
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGTERM, &action, NULL) == 0);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGTERM);
    CHECK(sigprocmask(SIG_BLOCK, &blocked, &open) == 0);
    CHECK(write(1, "+", 1) == 1);
    while (!is_over) {
        switch (way) {
        case 0: result = sigsuspend(&open); break;
        case 1: result = epoll_pwait(epoll, &event, 1, -1, &open); break;
        case 2: result = ppoll(NULL, 0, NULL, &open); break;
        default: result = pselect(0, NULL, NULL, NULL, NULL, &open); break;
        }
        CHECK(result == -1 && errno == EINTR);
        if (is_over)
            break;
        CHECK_EQUAL(handled, ++seen);
        CHECK(write(1, "+", 1) == 1);
    }
    return success();
}
