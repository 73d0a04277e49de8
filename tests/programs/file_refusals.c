// run: start=2038-01-19T03:14:08Z files=follow on=static,i386 bare=passes
// run: start=1970-01-01T00:00:00Z files=follow native=no on=static,i386 bare=never
/* What the kernel refuses about files' times it refuses on a clock too, with the same error, and leaves no answer:
 * closed files, names that are none, flags, sizes that do not fit, directories and filters of seccomp. */
#include "files.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#define CLOSED 999

static void check_all(const char *path, int fd, long of_path, long of_fd)
{
    for (const struct form *form = forms; form < forms + FORMS; form++) {
        if (HAS_PATH(form) ? !path : fd == -100)
            continue;
        CHECK_EQUAL(ask(form, path, fd), HAS_PATH(form) ? of_path : of_fd);
        check_untouched_from(0);
    }
}

static void check_names(void)
{
    static char long_name[PATH_MAX + 2];
    memset(long_name, 'x', PATH_MAX + 1);
    CHECK(symlink("l", "l") == 0);
    check_all("nothing", CLOSED, -ENOENT, -EBADF);
    check_all("", -1, -ENOENT, -EBADF);
    check_all("f/f", CLOSED, -ENOTDIR, -EBADF);
    check_all("l/f", CLOSED, -ELOOP, -EBADF);
    check_all(long_name, CLOSED, -ENAMETOOLONG, -EBADF);
    long_name[NAME_MAX + 1] = 0;
    check_all(long_name, CLOSED, -ENAMETOOLONG, -EBADF);
    CHECK(unlink("l") == 0);
}

static void check_flags(int fd)
{
    const long odd[] = {0, 1000000000, 0, 0}, omits[] = {0, UTIME_OMIT, 0, UTIME_OMIT}, good[] = {1, 2, 3, 4};
    CHECK_EQUAL(result_of(syscall(__NR_statx, AT_FDCWD, "f", 0x40000000, STATX_ALL_, answer)), -EINVAL);
    CHECK_EQUAL(result_of(syscall(__NR_statx, AT_FDCWD, "f", 0x6000, STATX_ALL_, answer)), -EINVAL);
    CHECK_EQUAL(result_of(syscall(__NR_statx, AT_FDCWD, "f", 0, 0x80000000, answer)), -EINVAL);
    CHECK_EQUAL(result_of(syscall(__NR_statx, CLOSED, "f", 0, STATX_ALL_, answer)), -EBADF);
    CHECK_EQUAL(result_of(syscall(__NR_statx, fd, "f", 0, STATX_ALL_, answer)), -ENOTDIR);
#ifdef __NR_newfstatat
    CHECK_EQUAL(result_of(syscall(__NR_newfstatat, AT_FDCWD, "f", answer, 0x40000000)), -EINVAL);
#endif
    CHECK_EQUAL(result_of(syscall(__NR_utimensat, AT_FDCWD, "f", odd, 0)), -EINVAL);
    CHECK_EQUAL(result_of(syscall(__NR_utimensat, AT_FDCWD, "f", good, 0x40000000)), -EINVAL);
    CHECK_EQUAL(result_of(syscall(__NR_utimensat, AT_FDCWD, "nothing", good, 0)), -ENOENT);
    CHECK_EQUAL(result_of(syscall(__NR_utimensat, AT_FDCWD, "nothing", omits, 0)), 0);
    CHECK_EQUAL(result_of(syscall(__NR_utimensat, CLOSED, NULL, good, 0)), -EBADF);
    CHECK_EQUAL(result_of(syscall(__NR_utimensat, CLOSED, NULL, NULL, 0)), -EBADF);
}

/* Of a file of 4 GiB, the old forms of a 32-bit program tell nothing. */
static void check_too_large(int fd)
{
    CHECK(syscall(SYS_ftruncate, fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
#ifdef OLDEST
    CHECK(ftruncate(fd, 1LL << 32) == 0);
    for (const struct form *form = forms; form < forms + FORMS; form++) {
        int is_large = form->size >= 96 || (form->is_old && !is_refused(form, fd, NULL));
        long result = ask(form, "f", fd);
        if (form->is_old)
            CHECK(result == -EOVERFLOW || is_large);
        else
            CHECK_EQUAL(result, is_large ? 0 : -EOVERFLOW);
        if (result < 0)
            check_untouched_from(0);
    }
    CHECK(ftruncate(fd, 0) == 0);
#endif
}

/* A directory that may be entered and not read; and one that may not be entered. */
static void check_directories(void)
{
    CHECK(mkdir("d", 0700) == 0 && chmod(".", 0711) == 0);
    int fd = make_file("d/f");
    CHECK(chmod("d", 0111) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0));
        for (const struct form *form = forms; form < forms + FORMS; form++)
            CHECK(ask(form, "d/f", fd) == 0 || form->is_old);
        CHECK_EQUAL(result_of(open("d", O_RDONLY)), -EACCES);
        _exit(0);
    }
    check_child(pid);
    CHECK(chmod("d", 0600) == 0 && (pid = fork()) >= 0);
    if (pid == 0) {
        CHECK(geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0));
        check_all("d/f", -100, -EACCES, 0);
        for (const struct form *form = forms; form < forms + FORMS; form++)
            CHECK(HAS_PATH(form) || ask(form, NULL, fd) == 0 || form->is_old);
        _exit(0);
    }
    check_child(pid);
    CHECK(close(fd) == 0 && chmod("d", 0700) == 0);
}

/* A filter of the program's own answers in the kernel's place, and what it lets through is as before. */
static void check_own_filter(int fd, long number)
{
    struct sock_filter refuse[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, number},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | 77},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
    struct sock_fprog program = {4, refuse};
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
        for (const struct form *form = forms; form < forms + FORMS; form++) {
            long result = ask(form, "f", fd);
            if (form->number == number) {
                CHECK_EQUAL(result, -77);
                check_untouched_from(0);
            } else {
                CHECK(result == 0 || form->is_old);
            }
        }
        _exit(0);
    }
    check_child(pid);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3 && argv[2]);
    enter_directory();
    int fd = make_file("f");
    check_names();
    check_flags(fd);
    check_too_large(fd);
    check_directories();
    for (const struct form *form = forms; form < forms + FORMS; form++)
        check_own_filter(fd, form->number);
    CHECK(close(fd) == 0);
    return success();
}
