/* refuse CALL COMMAND...: executes a command in a sandbox that refuses a system call with EPERM, as container runtimes
 * do: seccomp(2). Or an ioctl(2) or fcntl(2), as a kernel does that lacks it. */
#include "../check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

/* A call, what it fails with, and if that is not for all of its kind: which of its arguments has one of which bits. */
static const struct { const char *name; unsigned number, error, argument, mask, value; } refusals[] = {
    {"ptrace", SYS_ptrace, EPERM, 0, 0, 0},
    {"pidfd_getfd", 438, EPERM, 0, 0, 0},
    {"kcmp", SYS_kcmp, EPERM, 0, 0, 0},
    {"F_DUPFD_QUERY", SYS_fcntl, EINVAL, 1, ~0u, 1027},
    {"TFD_IOC_SET_TICKS", SYS_ioctl, ENOTTY, 1, ~0u, 0x40085400},
    /* As kernels that are older than the call. */
    {"Linux 5.2: PTRACE_GET_SYSCALL_INFO", SYS_ptrace, EIO, 0, ~0u, 0x420e},
    {"Linux 5.2: pidfd_open", 434, ENOSYS, 0, 0, 0},
    {"Linux 5.2: clone3", 435, ENOSYS, 0, 0, 0},
    {"Linux 5.4: CLONE_CLEAR_SIGHAND", 435, EINVAL, 1, ~0u, 64}, /* of the first size: libc's is a later one */
    {"Linux 5.5: pidfd_getfd", 438, ENOSYS, 0, 0, 0},
    {"Linux 5.8: close_range", 436, ENOSYS, 0, 0, 0},
    {"Linux 5.15: futex_waitv", 449, ENOSYS, 0, 0, 0},
    {"Linux 6.2: MFD_EXEC", SYS_memfd_create, EINVAL, 1, 0x10, 0x10},
    {"Linux 5.0: F_SEAL_FUTURE_WRITE", SYS_fcntl, EINVAL, 2, 0x10, 0x10},
    {"without CROSS_MEMORY_ATTACH: process_vm_readv", SYS_process_vm_readv, ENOSYS, 0, 0, 0},
    {"without CROSS_MEMORY_ATTACH: process_vm_writev", SYS_process_vm_writev, ENOSYS, 0, 0, 0},
    {"without KCMP: kcmp", SYS_kcmp, ENOSYS, 0, 0, 0},
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
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[refusals[i].argument])),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, refusals[i].mask),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusals[i].value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | refusals[i].error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    execvp(argv[2], argv + 2);
    CHECK(!"exec");
}
