/* refuse CALL COMMAND...: executes a command in a sandbox that refuses a system call with EPERM, as container runtimes
 * do: seccomp(2). Or an ioctl(2) or fcntl(2), as a kernel does that lacks it. */
#include "../check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static const struct { const char *name; unsigned number, error, request; } refusals[] = {
    {"ptrace", SYS_ptrace, EPERM, 0},
    {"pidfd_getfd", 438, EPERM, 0},
    {"kcmp", SYS_kcmp, EPERM, 0},
    {"F_DUPFD_QUERY", SYS_fcntl, EINVAL, 1027},
    {"TFD_IOC_SET_TICKS", SYS_ioctl, ENOTTY, 0x40085400},
};

int main(int argc, char **argv)
{
    unsigned i = 0;
    CHECK(argc > 2);
    while (strcmp(argv[1], refusals[i].name) != 0)
        CHECK(++i < sizeof refusals / sizeof *refusals);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusals[i].number, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusals[i].request, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JA, refusals[i].request ? 1 : 0, 0, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | refusals[i].error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    execvp(argv[2], argv + 2);
    CHECK(!"exec");
}
