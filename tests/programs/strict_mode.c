// run: start=1970-01-01T00:00:00Z bare=fails
/* A limit: a process that has a seccomp filter cannot enter strict mode, it gets EINVAL
 * (seccomp_may_assign_mode, kernel/seccomp.c). */
#include "check.h"
#include <linux/seccomp.h>
#include <sys/prctl.h>

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    CHECK_EQUAL(prctl(PR_GET_SECCOMP), SECCOMP_MODE_FILTER);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL) == -1 && errno == EINVAL);
    check_move(argv);
    return success();
}
