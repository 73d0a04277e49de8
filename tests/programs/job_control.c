// run: on=static,dynamic bare=passes
/* Job control: stopped children stay stopped and are reported once, by waitpid with WUNTRACED and
 * WCONTINUED and by waitid, alone and as a group, with threads, and die of SIGKILL while stopped. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

static volatile int *counter;

static void expect_state(pid_t pid, char expected)
{
    char path[64], state;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *stat = fopen(path, "r");
    CHECK(stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1);
    fclose(stat);
    /* A stopped program that is traced shows as t, tracing stop. */
    CHECK(state == expected || (expected == 'T' && state == 't'));
}

static void expect_stop(pid_t pid, int signal)
{
    int status;
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == signal);
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED | WCONTINUED | WNOHANG), 0);
    expect_state(pid, 'T');
}

static void expect_continue(pid_t pid)
{
    int status;
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK_EQUAL(waitpid(pid, &status, WCONTINUED), pid);
    CHECK_EQUAL(status, 0xffff); /* WIFCONTINUED */
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED | WCONTINUED | WNOHANG), 0);
}

static void end(pid_t pid)
{
    int status;
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void *spin(void *unused)
{
    for (;;)
        __atomic_fetch_add((int *)counter, 1, __ATOMIC_SEQ_CST);
    return unused;
}

static pid_t start_spinning(int threads)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        for (int i = 1; i < threads; i++)
            CHECK(pthread_create(&thread, NULL, spin, NULL) == 0);
        spin(NULL);
    }
    return pid;
}

static void await_progress(void)
{
    for (int seen = *counter; *counter == seen;)
        sched_yield();
}

static void check_no_progress(void)
{
    int seen = *counter;
    CHECK(usleep(5000) == 0);
    CHECK_EQUAL(*counter, seen);
}

static void each_stop_signal(void)
{
    static const int signals[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    for (int i = 0; i < 4; i++) {
        pid_t pid = start_spinning(1);
        CHECK(setpgid(pid, pid) == 0); /* in an orphaned group the tty signals stop nothing */
        await_progress();
        CHECK(kill(pid, signals[i]) == 0);
        expect_stop(pid, signals[i]);
        check_no_progress();
        expect_continue(pid);
        await_progress();
        end(pid);
    }
}

static void with_threads(void)
{
    pid_t pid = start_spinning(8);
    for (int i = 0; i < 5; i++) {
        await_progress();
        CHECK(kill(pid, SIGSTOP) == 0);
        expect_stop(pid, SIGSTOP);
        check_no_progress();
        expect_continue(pid);
    }
    CHECK(kill(pid, SIGSTOP) == 0);
    expect_stop(pid, SIGSTOP);
    end(pid); /* while stopped */
}

static void stops_itself(void)
{
    siginfo_t info;
    pid_t pid = fork();
    if (pid == 0) {
        raise(SIGSTOP);
        kill(getpid(), SIGTSTP);
        _exit(3);
    }
    CHECK(setpgid(pid, pid) == 0 || errno == ESRCH);
    CHECK(waitid(P_PID, pid, &info, WSTOPPED) == 0);
    CHECK(info.si_code == CLD_STOPPED && info.si_status == SIGSTOP && info.si_pid == pid);
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK(waitid(P_PID, pid, &info, WSTOPPED) == 0 && info.si_status == SIGTSTP);
    CHECK(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG) == 0);
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK(waitid(P_PID, pid, &info, WEXITED) == 0);
    CHECK(info.si_code == CLD_EXITED && info.si_status == 3);
}

/* A signal that comes during the stop is handled after it. */
static volatile sig_atomic_t handled;
static void on_signal(int signal) { handled = signal; }

static void signals_during_a_stop(void)
{
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(signal(SIGUSR1, on_signal) != SIG_ERR && signal(SIGCONT, on_signal) != SIG_ERR);
        CHECK(write(ends[1], "r", 1) == 1);
        while (handled != SIGUSR1)
            sched_yield();
        _exit(handled == SIGUSR1 ? 0 : 1);
    }
    CHECK(read(ends[0], &byte, 1) == 1);
    CHECK(kill(pid, SIGSTOP) == 0);
    expect_stop(pid, SIGSTOP);
    CHECK(kill(pid, SIGUSR1) == 0);
    expect_state(pid, 'T');
    CHECK(kill(pid, SIGCONT) == 0);
    check_child(pid);
    close(ends[0]);
    close(ends[1]);
}

static void a_stopped_exec(char **argv)
{
    pid_t pid = fork();
    if (pid == 0)
        exec_role(argv, "stops");
    expect_stop(pid, SIGSTOP);
    CHECK(kill(pid, SIGCONT) == 0); /* it ends at once, so whether it is seen to go on is chance */
    check_child(pid);
}

int main(int argc, char **argv)
{
    if (has_role(argv, "stops")) {
        raise(SIGSTOP);
        return 0;
    }
    CHECK(argc == 3);
    counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(counter != MAP_FAILED);
    each_stop_signal();
    with_threads();
    stops_itself();
    signals_during_a_stop();
    a_stopped_exec(argv);
    return success();
}
