/* Prints everything about itself that whoever started it decided, and no number that differs from
 * one process to the next. Two starts are alike when their reports are. Needs no /proc. */
#include "../check.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

extern char **environ;

static int compare(const void *a, const void *b)
{
    return strcmp(*(char **)a, *(char **)b);
}

static void report_strings(const char *title, char **strings)
{
    for (; *strings; strings++)
        printf("%s %s\n", title, *strings);
}

static void report_signals(void)
{
    sigset_t blocked, pending;
    struct sigaction action;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0 && sigpending(&pending) == 0);
    for (int signal = 1; signal < 65; signal++) {
        if (sigismember(&blocked, signal) == 1)
            printf("blocked %d\n", signal);
        if (sigismember(&pending, signal) == 1)
            printf("pending %d\n", signal);
        if (sigaction(signal, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            printf("ignored %d\n", signal);
    }
}

static void report_files(void)
{
    struct stat stat;
    for (int fd = 0; fd < 4096; fd++) {
        if (fstat(fd, &stat) == -1)
            continue;
        printf("fd %d type %o flags %x %x", fd, stat.st_mode & S_IFMT, fcntl(fd, F_GETFD),
               fcntl(fd, F_GETFL));
        if (S_ISFIFO(stat.st_mode))
            printf(" pipe of %d", fcntl(fd, F_GETPIPE_SZ));
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    char directory[4096];
    gid_t groups[256];
    uid_t r, e, s;
    int death_signal, count = 0;

    printf("argc %d\n", argc);
    report_strings("argv", argv);
    while (environ[count])
        count++;
    qsort(environ, count, sizeof *environ, compare);
    report_strings("env", environ);
    printf("cwd %s\n", getcwd(directory, sizeof directory) ? directory : "?");
    CHECK(getresuid(&r, &e, &s) == 0);
    printf("uids %d %d %d\n", r, e, s);
    CHECK(getresgid(&r, &e, &s) == 0);
    printf("gids %d %d %d\n", r, e, s);
    count = getgroups(256, groups);
    for (int i = 0; i < count; i++)
        printf("group %d\n", groups[i]);
    mode_t mask = umask(0);
    printf("umask %o\n", mask);
    printf("leads its group %d, its session %d\n", getpgrp() == getpid(), getsid(0) == getpid());
    printf("is in its parent's group %d, session %d\n", getpgrp() == getpgid(getppid()),
           getsid(0) == getsid(getppid()));
    printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
    CHECK(prctl(PR_GET_PDEATHSIG, &death_signal) == 0);
    printf("prctl %d %d %d\n", death_signal, prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
           prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));
    /* The filter shows in these two: test_popen_keywords.py. */
    printf("no_new_privs %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    printf("seccomp %d\n", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit;
        CHECK(getrlimit(i, &limit) == 0);
        printf("limit %d %llx %llx\n", i, (long long)limit.rlim_cur, (long long)limit.rlim_max);
    }
    report_signals();
    report_files();
    return 0;
}
