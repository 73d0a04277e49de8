// run: start=2038-01-19T03:14:08.123456789Z files=follow on=static,dynamic,i386,i386-dynamic bare=fails
// run: start=2106-02-07T06:28:17.5Z files=follow monotonic=freeze on=static,i386 bare=fails
// run: start=1901-12-13T20:45:51.999999999Z files=follow on=static,i386 bare=fails
// run: start=1970-01-01T00:00:00Z files=follow on=static native=no bare=never
/* A file's times are those of the clock, by each call that tells them; a file keeps them when the clock moves on or
 * back, and has what a program sets. */
#include "files.h"
#include <sys/mman.h>
#include <sys/socket.h>

static int64_t now_ns;

static void check_kinds(void)
{
    int pair[2], fd = memfd_create("f", MFD_CLOEXEC);
    CHECK(fd >= 0);
    check_times(NULL, fd, now_ns, now_ns, now_ns, now_ns);
    CHECK(close(fd) == 0 && pipe2(pair, O_CLOEXEC) == 0);
    check_times(NULL, pair[0], now_ns, now_ns, now_ns, now_ns);
    CHECK(close(pair[0]) == 0 && close(pair[1]) == 0);
    CHECK(mkdir("d", 0700) == 0 && symlink("nowhere", "l") == 0 && mkfifo("p", 0600) == 0);
    check_times("p", -1, now_ns, now_ns, now_ns, now_ns);
    CHECK((fd = open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
    check_times("d", fd, now_ns, now_ns, now_ns, now_ns);
    CHECK(close(fd) == 0 && (fd = open("l", O_PATH | O_NOFOLLOW | O_CLOEXEC)) >= 0);
    for (const struct form *form = forms; form < forms + FORMS; form++) {
        const int64_t expected_ns[] = {now_ns, now_ns, now_ns, now_ns};
        if (form->how == BY_PATH || form->is_old)
            continue;
        CHECK_EQUAL(ask(form, "l", fd), 0);
        check_answer(form, "a link", expected_ns);
    }
    CHECK(close(fd) == 0 && (fd = make_file("h")) >= 0 && unlink("h") == 0);
    check_times(NULL, fd, now_ns, now_ns, now_ns, now_ns);
    CHECK(close(fd) == 0);
}

/* "Now" is the clock's, what is said is what is said, and what is omitted stays. */
static void check_setting(int fd)
{
    const struct timespec said[] = {{5, 6}, {-7, 8}}, omits[] = {{9, UTIME_OMIT}, {9, UTIME_NOW}};
    const int64_t a = 5 * NSEC_PER_SEC + 6, m = -7 * NSEC_PER_SEC + 8;
    const struct timeval times[] = {{5, 6}, {7, 8}};
    const int64_t us_a = 5 * NSEC_PER_SEC + 6000, us_m = 7 * NSEC_PER_SEC + 8000;
    int64_t birth_ns = now_ns;

    check_times("f", fd, now_ns, now_ns, now_ns, birth_ns);
    CHECK(utimensat(AT_FDCWD, "f", said, 0) == 0);
    check_times("f", fd, a, m, now_ns, birth_ns);
    CHECK(utimensat(AT_FDCWD, "f", omits, 0) == 0);
    check_times("f", fd, a, now_ns, now_ns, birth_ns);
    CHECK(futimens(fd, said) == 0);
    check_times("f", fd, a, m, now_ns, birth_ns);
    CHECK(futimens(fd, NULL) == 0);
    check_times("f", fd, now_ns, now_ns, now_ns, birth_ns);
    CHECK(utimes("f", times) == 0);
    check_times("f", fd, us_a, us_m, now_ns, birth_ns);
    CHECK(utimes("f", NULL) == 0);
    check_times("f", fd, now_ns, now_ns, now_ns, birth_ns);
#ifdef __NR_utime
    const long seconds[] = {11, 12};
    CHECK(syscall(__NR_utime, "f", seconds) == 0);
    check_times("f", fd, 11 * NSEC_PER_SEC, 12 * NSEC_PER_SEC, now_ns, birth_ns);
    CHECK(syscall(__NR_utime, "f", NULL) == 0);
    check_times("f", fd, now_ns, now_ns, now_ns, birth_ns);
#endif
#ifdef __NR_futimesat
    const long microseconds[] = {5, 6, 7, 8};
    CHECK(syscall(__NR_futimesat, AT_FDCWD, "f", microseconds) == 0);
    check_times("f", fd, us_a, us_m, now_ns, birth_ns);
    CHECK(syscall(__NR_futimesat, AT_FDCWD, "f", NULL) == 0);
    check_times("f", fd, now_ns, now_ns, now_ns, birth_ns);
#endif
#ifdef __NR_utimensat_time64
    const long narrow[] = {5, 6, -7, 8};
    const int64_t wide[] = {5, 6, -7, 8};
    CHECK(syscall(__NR_utimensat, AT_FDCWD, "f", narrow, 0) == 0);
    check_times("f", fd, a, m, now_ns, birth_ns);
    CHECK(syscall(__NR_utimensat_time64, AT_FDCWD, "f", wide, 0) == 0);
    check_times("f", fd, a, m, now_ns, birth_ns);
    CHECK(syscall(__NR_utimensat, fd, NULL, NULL, 0) == 0);
    check_times("f", fd, now_ns, now_ns, now_ns, birth_ns);
#endif
    CHECK(write(fd, "1", 1) == 1);
    check_times("f", fd, now_ns, now_ns, now_ns, birth_ns);
}

/* What libc makes of it, where its time_t holds it. */
static void check_libc(int fd)
{
    struct stat status;
    if (sizeof(time_t) < 8)
        return;
    CHECK(stat("f", &status) == 0);
    CHECK_EQUAL(in_ns(status.st_mtim), now_ns);
    CHECK(lstat("f", &status) == 0);
    CHECK_EQUAL(in_ns(status.st_ctim), now_ns);
    CHECK(fstat(fd, &status) == 0);
    CHECK_EQUAL(in_ns(status.st_mtim), now_ns);
    CHECK(fstatat(AT_FDCWD, "f", &status, 0) == 0);
    CHECK_EQUAL(in_ns(status.st_mtim), now_ns);
}

static void ask_for(const char *move)
{
    char line[2];
    CHECK(write(1, move, strlen(move)) == (ssize_t)strlen(move));
    CHECK(read(0, line, 1) == 1);
}

int main(int argc, char **argv)
{
    int fd;
    CHECK(argc == 3);
    int64_t first_ns = now_ns = start_ns(argv);
    enter_directory();
    fd = make_file("f");
    check_setting(fd);
    check_libc(fd);
    check_kinds();

    ask_for("MOVE\n");
    moved_to_ns = now_ns = strtoll(argv[2], NULL, 10);
    check_times("f", fd, first_ns, first_ns, first_ns, first_ns);
    check_times("d", -1, first_ns, first_ns, first_ns, first_ns);
    CHECK(write(fd, "2", 1) == 1);
    check_times("f", fd, first_ns, now_ns, now_ns, first_ns);
    check_libc(fd);

    ask_for("MOVE_TO 1000000000\n");
    int64_t moved_ns = now_ns;
    moved_to_ns = now_ns = 1000000000 * NSEC_PER_SEC;
    check_times("f", fd, first_ns, moved_ns, moved_ns, first_ns);
    CHECK(fchmod(fd, 0600) == 0);
    check_times("f", fd, first_ns, moved_ns, now_ns, first_ns);
    int other = make_file("g");
    check_times("g", other, now_ns, now_ns, now_ns, now_ns);

    ask_for("MOVE_TO 4000000000\n");
    moved_to_ns = 4000000000 * NSEC_PER_SEC;
    check_times("g", other, now_ns, now_ns, now_ns, now_ns);
    check_times("f", fd, first_ns, moved_ns, now_ns, first_ns);
    CHECK(close(fd) == 0 && close(other) == 0);
    return success();
}
