// run: start=1970-01-01T00:00:00Z as=root on=static,dynamic bare=passes
// run: start=1970-01-01T00:00:00Z as=root on=static monotonic=freeze bare=never
// run: start=1970-01-01T00:00:00Z as=root on=static native=no bare=never
/* The first process of a PID namespace dies of its own faults, as any other: the kernel spares it signals that it
 * has no handler for, but not those (force_sig_info_to_task, kernel/signal.c). */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static void segv(void) { *(volatile int *)8 = 1; }

static void bus(void)
{
    char path[] = "/tmp/vdsotime-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0);
    char *beyond = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(beyond != MAP_FAILED);
    *(volatile char *)beyond;
}

static void ill(void)
{
#ifdef __aarch64__
    __asm__ volatile(".inst 0");
#else
    __asm__ volatile("ud2");
#endif
}

static void trap(void)
{
#ifdef __aarch64__
    __asm__ volatile("brk #0");
#else
    __asm__ volatile("int3");
#endif
}

#ifndef __aarch64__ /* where no division traps */
static void fpe(void) { __asm__ volatile("idivl %%ecx" : : "a"(1), "d"(0), "c"(0)); }
#endif

/* A filter that wants a signal for a call. */
static void sys(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    syscall(SYS_getpriority, PRIO_PROCESS, 0);
}

static void general(void)
{
#ifdef __aarch64__
    *(volatile int *)0x1000000000000000 = 1;
#else
    __asm__ volatile("hlt");
#endif
}

static void ignored(void)
{
    CHECK(signal(SIGSEGV, SIG_IGN) != SIG_ERR);
    segv();
}

static void blocked(void)
{
    sigset_t all;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    ill();
}

static void *in_thread(void *fault)
{
    ((void (*)(void))fault)();
    return NULL;
}

static void thread(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, in_thread, (void *)segv) == 0);
    pthread_join(thread, NULL);
}

static void beside_a_thread(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, in_thread, (void *)pause) == 0);
    usleep(1000);
    bus();
}

/* Sent by itself or by others of its namespace such a signal does nothing. */
static void sent(void)
{
    for (int number = 1; number < 32; number++)
        if (number != SIGCHLD && number != SIGSTOP)
            CHECK(kill(getpid(), number) == 0);
    if (fork() == 0) {
        CHECK(kill(getppid(), SIGSEGV) == 0 && kill(getppid(), SIGTERM) == 0);
        _exit(0);
    }
    CHECK(wait(NULL) > 0);
    _exit(7);
}

static void handle(int number) { _exit(number); }

static void handled(void)
{
    CHECK(signal(SIGSEGV, handle) != SIG_ERR);
    segv();
}

static const struct way { void (*act)(void); int number; int status; } ways[] = {
    {segv, SIGSEGV, 0}, {bus, SIGBUS, 0}, {ill, SIGILL, 0}, {trap, SIGTRAP, 0}, {sys, SIGSYS, 0},
    {general, SIGSEGV, 0}, {ignored, SIGSEGV, 0}, {blocked, SIGILL, 0}, {thread, SIGSEGV, 0},
    {beside_a_thread, SIGBUS, 0}, {sent, 0, 7}, {handled, 0, SIGSEGV}, {abort, 0, 0},
#ifndef __aarch64__
    {fpe, SIGFPE, 0},
#endif
};

/* How it ends, as the first process of a namespace or as any other; with a core dump or without. */
static int status_of(const struct way *way, int is_init, int dumps)
{
    int status, ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (!pid) {
        rlim_t limit = dumps ? RLIM_INFINITY : 0;
        struct rlimit core = {limit, limit};
        CHECK(setrlimit(RLIMIT_CORE, &core) == 0);
        CHECK(!is_init || unshare(CLONE_NEWPID) == 0);
        pid_t init = fork();
        if (!init) {
            way->act();
            _exit(100);
        }
        CHECK(waitpid(init, &status, 0) == init);
        CHECK(write(ends[1], &status, sizeof status) == sizeof status);
        _exit(0);
    }
    check_child(pid);
    CHECK(read(ends[0], &status, sizeof status) == sizeof status);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    return status;
}

static void remove_directory(const char *path)
{
    DIR *directory = opendir(".");
    CHECK(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            CHECK(unlink(entry->d_name) == 0);
    CHECK(closedir(directory) == 0 && chdir("/") == 0 && rmdir(path) == 0);
}

int main(void)
{
    char directory[] = "/tmp/vdsotime-XXXXXX";
    CHECK(mkdtemp(directory) && chdir(directory) == 0);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (int dumps = 0; dumps < 2; dumps++) {
            int status = status_of(&ways[i], 1, dumps);
            if (ways[i].act == abort) { /* by which instruction is the libc's own choice */
                CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGILL));
                continue;
            }
            if (!ways[i].number) {
                CHECK_EQUAL(status, ways[i].status << 8);
                continue;
            }
            CHECK_EQUAL(WIFSIGNALED(status), 1);
            CHECK_EQUAL(WTERMSIG(status), ways[i].number);
            CHECK_EQUAL(status, status_of(&ways[i], 0, dumps));
        }
    remove_directory(directory);
    return success();
}
