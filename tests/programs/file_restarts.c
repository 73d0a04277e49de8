// run: start=2038-01-19T03:14:08Z files=follow waits=real on=static,i386,i386-dynamic bare=passes
// run: start=2038-01-19T03:14:08Z files=follow waits=real native=no on=static,i386 bare=never
/* An open(2) that waits is interrupted by a signal's handler, and made again where that says so (SA_RESTART). */
#include "files.h"
#include <sys/syscall.h>
#include <sys/wait.h>

#define ROUNDS 60
#define NAP_US 300

static volatile int handled;

static void handler(int number)
{
    handled = number;
}

static int open_by(int way)
{
#ifdef SYS_open
    if (way)
        return syscall(SYS_open, "p", O_RDONLY);
#endif
    return syscall(SYS_openat, AT_FDCWD, "p", O_RDONLY, way);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3 && argv[2]);
    enter_directory();
    CHECK(mkfifo("p", 0600) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        int is_restarted = round % 2;
        struct sigaction action = {.sa_handler = handler, .sa_flags = is_restarted ? SA_RESTART : 0};
        CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
        handled = 0;
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            for (int i = 0; !is_restarted || i < 3; i++) { /* the first may come too early */
                usleep(NAP_US);
                CHECK(kill(parent, SIGUSR1) == 0);
            }
            usleep(NAP_US);
            _exit(open("p", O_WRONLY) < 0);
        }
        int fd = open_by(round / 2 % 2);
        int error = errno;
        CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR && handled == SIGUSR1);
        CHECK(is_restarted ? fd >= 0 : fd == -1 && error == EINTR);
        if (!is_restarted)
            CHECK(kill(child, SIGKILL) == 0);
        else
            CHECK(close(fd) == 0);
        CHECK(waitpid(child, NULL, 0) == child);
    }
    return success();
}
