/* The ways to ask for the times of a file, and to set them: each system call by its number, with the layout of
 * its answer. */
#ifndef FILES_H
#define FILES_H

#include "check.h"
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <sys/stat.h>
#include <asm/unistd.h> /* by the kernel's own names, which musl changes on i386 */

enum how { BY_PATH, BY_LINK, BY_FD, BY_AT, BY_AT_FD, BY_STATX, BY_STATX_FD };
enum { ATIME, MTIME, CTIME, BTIME, TIMES };

#define EMPTY_PATH 0x1000
#define NO_FOLLOW 0x100
#define STATX_ALL_ 0xfff
#define STATX_BTIME_ 0x800

struct form {
    const char *name;
    long number;
    enum how how;
    int size, seconds; /* bytes of an answer, and of its seconds; the nanoseconds come behind */
    int at[TIMES];
    int is_old;        /* inodes of 16 bits, and no nanoseconds */
};

#define STATX_AT .size = 256, .seconds = 8, .at = {64, 112, 96, 80}
#if UINTPTR_MAX == UINT32_MAX && defined __NR_oldstat
#define OLDEST .size = 32, .seconds = 4, .at = {20, 24, 28, 0}, .is_old = 1
#define NARROW .size = 64, .seconds = 4, .at = {32, 40, 48, 0}
#define STAT64 .size = 96, .seconds = 4, .at = {64, 72, 80, 0}
#else
#define NATIVE                                                                                      \
    .size = sizeof(struct stat), .seconds = sizeof(time_t),                                        \
    .at = {offsetof(struct stat, st_atim), offsetof(struct stat, st_mtim), offsetof(struct stat, st_ctim), 0}
#endif

static const struct form forms[] = {
#ifdef OLDEST
    {"oldstat", __NR_oldstat, BY_PATH, OLDEST},
    {"oldlstat", __NR_oldlstat, BY_LINK, OLDEST},
    {"oldfstat", __NR_oldfstat, BY_FD, OLDEST},
    {"stat", __NR_stat, BY_PATH, NARROW},
    {"lstat", __NR_lstat, BY_LINK, NARROW},
    {"fstat", __NR_fstat, BY_FD, NARROW},
    {"stat64", __NR_stat64, BY_PATH, STAT64},
    {"lstat64", __NR_lstat64, BY_LINK, STAT64},
    {"fstat64", __NR_fstat64, BY_FD, STAT64},
    {"fstatat64", __NR_fstatat64, BY_AT, STAT64},
    {"fstatat64 of a descriptor", __NR_fstatat64, BY_AT_FD, STAT64},
#else
#ifdef __NR_stat
    {"stat", __NR_stat, BY_PATH, NATIVE},
    {"lstat", __NR_lstat, BY_LINK, NATIVE},
#endif
    {"fstat", __NR_fstat, BY_FD, NATIVE},
    {"newfstatat", __NR_newfstatat, BY_AT, NATIVE},
    {"newfstatat of a descriptor", __NR_newfstatat, BY_AT_FD, NATIVE},
#endif
    {"statx", __NR_statx, BY_STATX, STATX_AT},
    {"statx of a descriptor", __NR_statx, BY_STATX_FD, STATX_AT},
};
#define FORMS (sizeof forms / sizeof *forms)
#define HAS_PATH(form) ((form)->how != BY_FD && (form)->how != BY_AT_FD && (form)->how != BY_STATX_FD)

/* One answer. Behind it is what must stay untouched. */
static _Alignas(16) unsigned char answer[256 + 16];

static inline long result_of(long result)
{
    return result == -1 ? -errno : result;
}

/* The kernel's result: an error is negative. */
static inline long ask(const struct form *form, const char *path, int fd)
{
    memset(answer, 0xee, sizeof answer);
    switch (form->how) {
    case BY_PATH:
    case BY_LINK: return result_of(syscall(form->number, path, answer));
    case BY_FD: return result_of(syscall(form->number, fd, answer));
    case BY_AT: return result_of(syscall(form->number, AT_FDCWD, path, answer, NO_FOLLOW));
    case BY_AT_FD: return result_of(syscall(form->number, fd, "", answer, EMPTY_PATH));
    case BY_STATX: return result_of(syscall(form->number, AT_FDCWD, path, NO_FOLLOW, STATX_ALL_, answer));
    default: return result_of(syscall(form->number, fd, "", EMPTY_PATH, STATX_ALL_, answer));
    }
}

static inline void check_untouched_from(int at)
{
    for (unsigned i = at; i < sizeof answer; i++)
        CHECK_EQUAL(answer[i], 0xee);
}

static inline int has_birth(const struct form *form)
{
    uint32_t mask;
    memcpy(&mask, answer, sizeof mask);
    return (form->how == BY_STATX || form->how == BY_STATX_FD) && (mask & STATX_BTIME_);
}

static inline int64_t floor_seconds(int64_t ns)
{
    return ns / NSEC_PER_SEC - (ns % NSEC_PER_SEC < 0);
}

/* Where the clock was moved to last. */
static int64_t moved_to_ns = INT64_MIN;

/* The answer has these times, as far as its fields hold them. In whole seconds, all of a second in which the clock was moved
 * counts as written behind that. */
static inline void check_answer(const struct form *form, const char *of, const int64_t *expected_ns)
{
    for (int which = 0; which < TIMES; which++) {
        int64_t wide, sec = floor_seconds(expected_ns[which]);
        int32_t narrow, nsec;
        const unsigned char *at = answer + form->at[which];
        if (which == BTIME && !has_birth(form))
            continue;
        memcpy(&wide, at, sizeof wide);
        memcpy(&narrow, at, sizeof narrow);
        memcpy(&nsec, at + form->seconds, sizeof nsec);
        int is_right = form->seconds == 8 ? wide == sec : narrow == (int32_t)sec;
        is_right |= form->is_old && narrow == (int32_t)floor_seconds(moved_to_ns);
        if (is_right && (form->is_old || nsec == expected_ns[which] - sec * NSEC_PER_SEC))
            continue;
        dprintf(2, "%s of %s: time %d is %lld.%09d, not %lld.%09d\n", form->name, of, which,
                (long long)(form->seconds == 8 ? wide : narrow), nsec, (long long)sec,
                (int)(expected_ns[which] - sec * NSEC_PER_SEC));
        _exit(1);
    }
}

/* Whether an inode has more than the 16 bits that old forms have for it. */
static inline int is_refused(const struct form *form, int fd, const char *path)
{
    struct stat status;
    CHECK((path ? lstat(path, &status) : fstat(fd, &status)) == 0);
    return form->is_old && status.st_ino > USHRT_MAX;
}

/* Every form has these times of a file, which is open too, or is without a name. */
static inline void check_times(const char *path, int fd, int64_t atime, int64_t mtime, int64_t ctime, int64_t btime)
{
    const int64_t expected_ns[] = {atime, mtime, ctime, btime};
    for (const struct form *form = forms; form < forms + FORMS; form++) {
        if (HAS_PATH(form) ? !path : fd < 0)
            continue;
        long expected = is_refused(form, fd, HAS_PATH(form) ? path : NULL) ? -EOVERFLOW : 0;
        CHECK_EQUAL(ask(form, path, fd), expected);
        if (expected != 0)
            continue;
        check_answer(form, path ? path : "what has no name", expected_ns);
        check_untouched_from(form->size);
    }
}

/* Goes on in a child, whose working directory is a new one. The parent removes that when the child has ended,
 * however it has. */
static inline void enter_directory(void)
{
    static const char *const names[] = {"f", "g", "h", "l", "p", "stat", "d/f", "d"};
    const char *above = getenv("TMPDIR");
    char path[PATH_MAX];
    int status;
    CHECK(snprintf(path, sizeof path, "%s/files-XXXXXX", above ? above : "/tmp") < (int)sizeof path);
    CHECK(mkdtemp(path) && chdir(path) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        return;
    CHECK(waitpid(pid, &status, 0) == pid);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        remove(names[i]);
    CHECK(chdir("/") == 0 && rmdir(path) == 0);
    _exit(status == 0 ? 0 : 1);
}

static inline int make_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    CHECK(fd >= 0);
    return fd;
}

#endif
