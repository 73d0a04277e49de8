// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 bare=passes
// run: start=2000-01-01T00:00:00Z rate=1 waits=real on=static bare=never
/* A process may send itself a signal with any code (rt_tgsigqueueinfo(2)), as that of a stop which a tracer hears of. Each
 * is delivered once, as it was sent, from several threads at a time and beside real births and ends. */
#include "check.h"
#include <pthread.h>
#include <signal.h>

#define THREADS 4
#define ROUNDS 12
#define EVENTS 9

static const int numbers[] = {SIGTRAP, SIGUSR1, SIGALRM, SIGCHLD, SIGSYS, SIGSEGV, SIGBUS, SIGTSTP};
static __thread volatile int code, number, heard;

static void hear(int got, siginfo_t *info, void *context)
{
    (void)context;
    if (got == SIGCHLD && info->si_code == CLD_EXITED && code != CLD_EXITED)
        return; /* a real one */
    CHECK_EQUAL(got, number);
    CHECK_EQUAL(info->si_code, code);
    CHECK(info->si_value.sival_int == heard || sizeof(long) < 8); /* 32-bit ones get what the code stands for (signal_compat.c) */
    heard++;
}

static void forge(int sent, int its_code)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = number = sent;
    info.si_code = code = its_code;
    info.si_pid = 1;
    info.si_value.sival_int = heard;
    int before = heard;
    CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), sent, &info) == 0);
    CHECK_EQUAL(heard, before + 1);
}

static void *run(void *argument)
{
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            for (int event = 0; event < EVENTS; event++) {
                forge(numbers[i], SIGTRAP | (event == EVENTS - 1 ? 128 : event) << 8);
                forge(numbers[i], numbers[i] | 128 << 8); /* PTRACE_EVENT_STOP, of a group-stop */
            }
            forge(numbers[i], SIGTRAP | 0x80); /* PTRACE_O_TRACESYSGOOD */
            forge(numbers[i], SI_KERNEL);
            forge(numbers[i], SI_QUEUE);
        }
        pid_t pid = fork();
        if (pid == 0)
            _exit(7);
        int status;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
    }
    return argument;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = hear, .sa_flags = SA_SIGINFO | SA_RESTART};
    pthread_t threads[THREADS];
    CHECK(argc == 3 && argv[1]);
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        CHECK(sigaction(numbers[i], &action, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return success();
}
