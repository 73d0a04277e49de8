// run: start=now files=follow on=static,i386 bare=fails
// run: start=now files=follow native=no on=static bare=never
/* A program whose own filter kills for any system call that it does not know has the clock's times of its files, also
 * when some of them are as programs have set them; and what its filter wants traced fails as without a tracer. */
#include "files.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#define NO_SUCH_CALL 1000

static void install(unsigned operation, unsigned number, unsigned action)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | operation | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

int main(int argc, char **argv)
{
    struct timespec ts;
    CHECK(argc == 3 && argv[2]);
    enter_directory();
    CHECK(clock_gettime(CLOCK_REALTIME, &ts) == 0);
    int64_t now_ns = in_ns(ts);
    const long later[] = {ts.tv_sec + 60, 5, ts.tv_sec + 60, 5};
    int64_t set_ns = later[0] * NSEC_PER_SEC + 5;
    int fd = make_file("f"), set = make_file("g");
    CHECK(syscall(__NR_utimensat, set, NULL, later, 0) == 0);

    pid_t pid = fork();
    if (pid == 0) {
        install(BPF_JGE, NO_SUCH_CALL, SECCOMP_RET_KILL_PROCESS);
        check_times("f", fd, now_ns, now_ns, now_ns, now_ns);
        check_times("g", set, set_ns, set_ns, now_ns, now_ns);
        _exit(0);
    }
    check_child(pid);
    pid = fork();
    if (pid == 0) {
        install(BPF_JEQ, SYS_close, SECCOMP_RET_TRACE | 1);
        CHECK_EQUAL(result_of(syscall(SYS_close, fd, (void *)8)), -ENOSYS);
        check_times("f", fd, now_ns, now_ns, now_ns, now_ns);
        _exit(0);
    }
    check_child(pid);
    CHECK(close(fd) == 0 && close(set) == 0);
    return success();
}
