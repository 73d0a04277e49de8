// run: start=2038-01-19T03:14:08Z files=follow on=static,i386 bare=passes
// run: start=2038-01-19T03:14:08Z files=follow native=no on=static bare=never
/* The files that tell the machine's time are opened, described, read and refused as the kernel's own. */
#include "files.h"
#include <signal.h>
#include <sys/resource.h>

static const char *const names[] = {"/proc/uptime", "/proc/stat", "/proc/self/stat"};
enum { NAMES = sizeof names / sizeof *names };
static char text[1 << 16];

static void check_opening(const char *name)
{
    int lowest = dup(0), fd;
    CHECK(lowest >= 0 && close(lowest) == 0);
    CHECK((fd = open(name, O_RDONLY | O_CLOEXEC)) == lowest);
    CHECK_EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQUAL(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    CHECK_EQUAL(close(fd), 0);
    CHECK((fd = open(name, O_RDONLY)) == lowest);
    CHECK_EQUAL(fcntl(fd, F_GETFD), 0);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQUAL(result_of(write(fd, "1", 1)), -EBADF);
    CHECK_EQUAL(close(fd), 0);
    CHECK_EQUAL(result_of(close(fd)), -EBADF);

    CHECK_EQUAL(result_of(open(name, O_RDONLY | O_DIRECTORY)), -ENOTDIR);
    CHECK_EQUAL(result_of(open(name, O_RDONLY | O_CREAT | O_EXCL, 0644)), -EEXIST);
    CHECK(symlink(name, "l") == 0);
    CHECK_EQUAL(result_of(open("l", O_RDONLY | O_NOFOLLOW)), -ELOOP);
    CHECK((fd = open("l", O_PATH | O_NOFOLLOW)) >= 0);
    CHECK_EQUAL(result_of(read(fd, text, 1)), -EBADF);
    CHECK(close(fd) == 0 && unlink("l") == 0);

    struct rlimit limit, none = {lowest, lowest};
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none.rlim_max = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK_EQUAL(result_of(open(name, O_RDONLY)), -EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void check_reading(const char *name)
{
    char first[8], again[8];
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(read(fd, text, 0), 0);
    CHECK_EQUAL(result_of(read(fd, (void *)8, 8)), -EFAULT);
    CHECK_EQUAL(read(fd, first, 3), 3);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 3);
    CHECK_EQUAL(pread(fd, again, 3, 0), 3);
    CHECK(memcmp(first, again, 3) == 0);
    ssize_t rest = 0, count;
    while ((count = read(fd, text, sizeof text)) > 0)
        rest += count;
    CHECK(count == 0 && rest > 5 && read(fd, text, sizeof text) == 0);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), rest + 3);
    CHECK_EQUAL(pread(fd, text, sizeof text, rest + 1000), 0);
    CHECK_EQUAL(lseek(fd, 1, SEEK_SET), 1);
    CHECK(read(fd, again, 2) == 2 && memcmp(first + 1, again, 2) == 0);
    CHECK(close(fd) == 0);
}

/* It is the file that the path leads to, which has no size. */
static void check_identity(const char *name)
{
    struct stat status, of_path;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &status) == 0 && stat(name, &of_path) == 0);
    CHECK_EQUAL(status.st_mode, S_IFREG | 0444);
    CHECK_EQUAL(status.st_size, 0);
    CHECK_EQUAL(status.st_dev, of_path.st_dev);
    CHECK_EQUAL(status.st_ino, of_path.st_ino);
    CHECK(close(fd) == 0);
}

/* Of a file that is none of these, but for its name, nothing is read. */
static void check_pipe(void)
{
    CHECK(mkfifo("stat", 0600) == 0);
    int fd = open("stat", O_RDONLY | O_NONBLOCK | O_CLOEXEC), other = open("stat", O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && other >= 0 && write(other, "btime 1\n", 8) == 8);
    int again = open("stat", O_RDONLY | O_CLOEXEC);
    CHECK(again >= 0 && read(again, text, sizeof text) == 8 && memcmp(text, "btime 1\n", 8) == 0);
    CHECK(close(fd) == 0 && close(again) == 0 && close(other) == 0 && unlink("stat") == 0);
    CHECK((fd = open("stat", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) >= 0 && write(fd, "btime 1\n", 8) == 8);
    CHECK((again = open("stat", O_RDONLY | O_CLOEXEC)) >= 0);
    CHECK(read(again, text, sizeof text) == 8 && memcmp(text, "btime 1\n", 8) == 0);
    CHECK(close(fd) == 0 && close(again) == 0 && unlink("stat") == 0);
}

static void check_ended(void)
{
    char path[64];
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && read(fd, text, 1) == 1);
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid && close(fd) == 0);
    CHECK_EQUAL(result_of(open(path, O_RDONLY)), -ENOENT);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3 && argv[2]);
    enter_directory();
    for (int i = 0; i < NAMES; i++) {
        check_opening(names[i]);
        check_reading(names[i]);
    }
    check_pipe();
    check_ended();
    for (int i = 0; i < NAMES; i++)
        check_identity(names[i]);
    return success();
}
