// run: start=1970-01-01T00:00:00Z bare=fails
/* A program that forbids itself to read any file but itself (landlock(7)) and executes has the clock, by a private
 * copy of the page. Where the kernel has no Landlock it is as ever. */
#include "check.h"
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>

int main(int argc, char **argv)
{
    struct landlock_ruleset_attr attributes = {.handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE |
                                                                   LANDLOCK_ACCESS_FS_WRITE_FILE};
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    if (argc == 3) {
        int rules = syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
        CHECK(rules >= 0 || errno == ENOSYS || errno == EOPNOTSUPP);
        if (rules >= 0) {
            struct landlock_path_beneath_attr self = {
                .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
                .parent_fd = open(SELF, O_PATH | O_CLOEXEC),
            };
            CHECK(self.parent_fd >= 0);
            CHECK(syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &self, 0) == 0);
            CHECK(close(self.parent_fd) == 0);
            CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
            CHECK(syscall(SYS_landlock_restrict_self, rules, 0) == 0 && close(rules) == 0);
        }
        exec_role(argv, "inside");
    }
    int fd = open("/etc/passwd", O_RDONLY);
    CHECK(fd >= 0 || errno == EACCES);
    pid_t pid = fork();
    if (pid == 0) {
        check_wall(start_ns(argv));
        CHECK_EQUAL(raw_time(), start_ns(argv) / NSEC_PER_SEC);
        _exit(0);
    }
    check_child(pid);
    check_move(argv);
    return success();
}
