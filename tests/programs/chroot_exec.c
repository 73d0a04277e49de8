// run: start=1970-01-01T00:00:00Z on=static,i386 as=root bare=fails
/* In a root directory with nothing in it, no /proc, no library. */
#include "check.h"
#include <fcntl.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
    CHECK(argc >= 3);
    if (argc == 3) {
        char directory[] = "/tmp/vdsotime-chroot-XXXXXX";
        int self = open(SELF, O_RDONLY | O_CLOEXEC);
        char *arguments[] = {argv[0], argv[1], argv[2], "inside", NULL};
        CHECK(self >= 0 && mkdtemp(directory) && chdir(directory) == 0);
        CHECK(rmdir(directory) == 0); /* what is in use stays until the last leaves */
        CHECK(chroot(".") == 0);
        fexecve(self, arguments, (char *[]){NULL});
        CHECK(!"exec");
    }
    CHECK(access("/proc", F_OK) == -1);
    check_wall(start_ns(argv));
    check_move(argv);
    pid_t pid = fork();
    if (pid == 0) {
        check_wall(strtoll(argv[2], NULL, 10));
        _exit(0);
    }
    check_child(pid);
    return success();
}
