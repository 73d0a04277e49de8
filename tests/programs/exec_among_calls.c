// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* A thread that is not the first executes while fifteen others make system calls about time, wait until
 * points of the clock, begin and end; again and again. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 16, EXECS = 12 };

static char **arguments;
static pthread_barrier_t ready;

static void *pass(void *unused) { return unused; }

static void *call_on(void *number)
{
    struct timespec ts, past = {start_ns(arguments) / NSEC_PER_SEC, 0};
    pthread_t thread;
    pthread_barrier_wait(&ready);
    for (;;) {
        CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
        CHECK_EQUAL(in_ns(ts), start_ns(arguments));
        if ((intptr_t)number % 3 == 0)
            CHECK(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &past, NULL) == 0);
        if ((intptr_t)number % 3 == 1) {
            int error = pthread_create(&thread, NULL, pass, NULL);
            CHECK(error == 0 || error == EAGAIN); /* while another executes: copy_fs, kernel/fork.c */
            CHECK(error || pthread_join(thread, NULL) == 0);
        }
    }
}

static void *execute(void *unused)
{
    char round[16];
    struct timespec little = {0, 3000000};
    pthread_barrier_wait(&ready);
    CHECK(nanosleep(&little, NULL) == 0);
    snprintf(round, sizeof round, "%d", arguments[3] ? atoi(arguments[3]) + 1 : 1);
    CHECK(gettid() != getpid());
    exec_role(arguments, round);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    arguments = argv;
    if (argc > 3 && atoi(argv[3]) == EXECS) {
        check_move(argv);
        return success();
    }
    CHECK(pthread_barrier_init(&ready, NULL, THREADS) == 0);
    for (intptr_t i = 1; i < THREADS; i++)
        CHECK(pthread_create(&thread, NULL, i == 1 ? execute : call_on, (void *)i) == 0);
    call_on(NULL);
}
