// run: start=1970-01-01T00:00:00Z on=static,i386 as=root bare=fails
/* As a user who may open nothing that belongs to the tracer, first by giving up root, then anew. */
#include "check.h"
#include <fcntl.h>
#include <grp.h>

int main(int argc, char **argv)
{
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    if (argc == 3) {
        int self = open(SELF, O_RDONLY);
        char *arguments[] = {argv[0], argv[1], argv[2], "user", NULL};
        CHECK(self == 3 && setgroups(0, NULL) == 0);
        CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
        check_wall(start_ns(argv));
        fexecve(self, arguments, (char *[]){NULL});
        CHECK(!"exec");
    }
    CHECK(getuid() == 65534 && geteuid() == 65534 && getgid() == 65534);
    pid_t pid = fork();
    if (pid == 0) {
        if (has_role(argv, "user")) {
            char *arguments[] = {argv[0], argv[1], argv[2], "again", NULL};
            fexecve(3, arguments, (char *[]){NULL});
        }
        _exit(0);
    }
    check_child(pid);
    if (has_role(argv, "again"))
        return 0;
    check_move(argv);
    return success();
}
