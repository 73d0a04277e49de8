// run: start=1970-01-01T00:00:00Z bare=fails
/* A program that installs seccomp filters of its own (seccomp(2)). What they decide stands, and what
 * they let through is answered from the clock. */
#include "check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

/* One filter more: `action` for system call `number`, everything else is allowed. */
static void install(unsigned number, unsigned action)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void check_raw(int64_t expected_ns)
{
    struct timespec ts = {-1, -1};
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), expected_ns);
}

int main(int argc, char **argv)
{
    struct timespec ts = {-1, -1};
    CHECK(argc >= 3);
    int64_t wall_ns = start_ns(argv);
    check_wall(wall_ns);
    if (argc == 3) {
        install(SYS_getppid, SECCOMP_RET_ALLOW);
        check_raw(wall_ns);
        install(SYS_getppid, SECCOMP_RET_LOG);
        check_raw(wall_ns);
        install(SYS_gettimeofday, SECCOMP_RET_ERRNO | EXDEV);
        CHECK(syscall(SYS_gettimeofday, NULL, NULL) == -1 && errno == EXDEV);
        exec_role(argv, "executed");
    }
    CHECK(syscall(SYS_gettimeofday, NULL, NULL) == -1 && errno == EXDEV);
    check_raw(wall_ns);
    install(SYS_clock_gettime, SECCOMP_RET_ERRNO | EPERM);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == -1 && errno == EPERM);
    CHECK(ts.tv_sec == -1);
    check_wall(wall_ns);
    pid_t pid = fork();
    if (pid == 0) {
        check_wall(wall_ns);
#ifdef SYS_time
        CHECK_EQUAL(syscall(SYS_time, NULL), wall_ns / NSEC_PER_SEC);
#endif
        _exit(0);
    }
    check_child(pid);
    check_move(argv);
    return success();
}
