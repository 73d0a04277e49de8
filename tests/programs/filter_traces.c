// run: start=1970-01-01T00:00:00Z bare=fails
/* A program's own filter asks for a tracer (SECCOMP_RET_TRACE) at calls that have nothing to do with
 * time. It has no tracer of its own, so they fail with ENOSYS (seccomp(2)), whatever number the
 * filter gives. */
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static void trace(unsigned number, unsigned data)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | data),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

int main(int argc, char **argv)
{
    struct timespec ts = {-1, -1};
    CHECK(argc == 3);
    trace(SYS_getppid, 0); /* the number of a call that the tracer knows */
    CHECK(syscall(SYS_getppid, 0, &ts) == -1 && errno == ENOSYS);
    CHECK(ts.tv_sec == -1 && ts.tv_nsec == -1);
    trace(SYS_getuid, 0xffff); /* and one that it does not */
    CHECK(syscall(SYS_getuid) == -1 && errno == ENOSYS);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), start_ns(argv));
    check_move(argv);
    return success();
}
