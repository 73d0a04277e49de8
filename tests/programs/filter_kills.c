// run: start=1970-01-01T00:00:00Z as=root bare=fails
/* A program that forbids itself to open or map anything, on pain of death, and then executes one that
 * does neither. Alone that one runs; so it does with the clock.
 * As root: an ordinary user may not suspend filters (PTRACE_O_SUSPEND_SECCOMP, ptrace(2)), and the program is killed. */
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#define KILL_AT(number)                                                                            \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),                                             \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

int main(int argc, char **argv)
{
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    if (argc == 3) {
        struct sock_filter code[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            KILL_AT(SYS_openat),
#ifdef SYS_open
            KILL_AT(SYS_open),
#endif
            KILL_AT(SYS_mmap),
            KILL_AT(SYS_mprotect),
            KILL_AT(SYS_munmap),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {sizeof code / sizeof *code, code};
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
        exec_role(argv, "executed");
    }
    check_move(argv);
    return success();
}
