// run: start=1970-01-01T00:00:01Z files=follow on=static,i386 bare=passes
// run: start=2000-01-01T00:00:00Z files=follow rate=1 on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z files=real on=static,i386 bare=never
// run: start=2000-01-01T00:00:00Z files=follow waits=real on=static bare=never
/* The pointers of calls that ask for the times of files or set them, and of those that open files. */
#include "files.h"
#include "pointers.h"

#define ADDRESS(x) ((long)(x))
static char path[] = "f", nothing[] = "nothing", empty[] = "";
static char good_memory[512];

static void try_forms(int fd)
{
    for (const struct form *form = forms; form < forms + FORMS; form++) {
        int is_at = form->how >= BY_AT, is_x = form->how == BY_STATX || form->how == BY_STATX_FD;
        int has_path = HAS_PATH(form), flags = has_path ? NO_FOLLOW : EMPTY_PATH;
        long good = is_refused(form, fd, NULL) ? -EOVERFLOW : 0;
        struct trial trial = {
            .name = form->name, .number = form->number, .at = is_x ? 4 : is_at ? 2 : 1, .access = WRITES,
            .size = form->size, .good = good, .null = -EFAULT, .fault = -EFAULT, .read_only = -EFAULT};
        trial.args[0] = is_at ? (has_path ? AT_FDCWD : fd) : has_path ? ADDRESS(path) : fd;
        if (is_at) {
            trial.args[1] = ADDRESS(has_path ? path : empty);
            trial.args[is_x ? 2 : 3] = flags;
            trial.args[3] = is_x ? STATX_ALL_ : trial.args[3];
        }
        if (good != 0)
            trial.null = trial.fault = trial.read_only = good; /* before anything is written */
        try_everywhere(&trial);

        struct trial failing = trial;
        if (has_path)
            failing.args[is_at ? 1 : 0] = ADDRESS(nothing);
        else
            failing.args[0] = 999;
        failing.good = failing.null = failing.fault = failing.read_only = has_path ? -ENOENT : -EBADF;
        failing.state = "nothing";
        try_everywhere(&failing);

        if (!has_path)
            continue;
        trial.args[trial.at] = ADDRESS(good_memory);
        trial.at = is_at ? 1 : 0;
        trial.access = READS;
        trial.size = sizeof path;
        trial.data = path;
        trial.null = trial.fault = trial.read_only = -EFAULT;
        trial.state = "a path";
        try_everywhere(&trial);
    }
}

static void try_setting(int fd)
{
    static const long narrow[] = {5, 6, 7, 8}, odd[] = {5, 6, 7, 1000000000};
    TRY(CALL(utimensat), .args = {AT_FDCWD, ADDRESS(path), 0, 0}, .at = 2, .size = sizeof narrow, .data = narrow, .null = 0);
    TRY(CALL(utimensat), .args = {AT_FDCWD, ADDRESS(path), 0, 0}, .at = 2, .size = sizeof odd, .data = odd,
        .good = -EINVAL, .null = 0);
    TRY(CALL(utimensat), .args = {AT_FDCWD, 0, ADDRESS(narrow), 0}, .at = 1, .size = sizeof path, .data = path);
    TRY(CALL(utimensat), .args = {fd, 0, ADDRESS(narrow), 0}, .at = 1, .size = sizeof path, .data = path,
        .good = -ENOTDIR, .null = 0);
#ifdef __NR_utimensat_time64
    static const int64_t wide[] = {5, 6, 7, 8};
    TRY(CALL(utimensat_time64), .args = {AT_FDCWD, ADDRESS(path), 0, 0}, .at = 2, .size = sizeof wide, .data = wide,
        .null = 0);
    TRY(CALL(utimensat_time64), .args = {AT_FDCWD, 0, ADDRESS(wide), 0}, .at = 1, .size = sizeof path, .data = path);
#endif
#ifdef __NR_utime
    TRY(CALL(utime), .args = {ADDRESS(path), 0}, .at = 1, .size = 2 * sizeof(long), .data = narrow, .null = 0);
    TRY(CALL(utime), .args = {0, ADDRESS(narrow)}, .at = 0, .size = sizeof path, .data = path);
    TRY(CALL(utimes), .args = {ADDRESS(path), 0}, .at = 1, .size = sizeof narrow, .data = narrow, .null = 0);
    TRY(CALL(utimes), .args = {0, ADDRESS(narrow)}, .at = 0, .size = sizeof path, .data = path);
    TRY(CALL(futimesat), .args = {AT_FDCWD, ADDRESS(path), 0}, .at = 2, .size = sizeof narrow, .data = narrow, .null = 0);
    TRY(CALL(futimesat), .args = {AT_FDCWD, 0, ADDRESS(narrow)}, .at = 1, .size = sizeof path, .data = path);
#endif
}

static void try_opening(void)
{
    static const char *const names[] = {"f", "/proc/uptime", "/proc/stat", "/proc/self/stat"};
    static const uint64_t how[3] = {O_RDONLY};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        size_t size = strlen(names[i]) + 1;
        TRY(CALL(openat), .args = {AT_FDCWD, 0, O_RDONLY}, .at = 1, .size = size, .data = names[i], .good = ANY_HANDLE);
        TRY(CALL(openat2), .args = {AT_FDCWD, 0, ADDRESS(how), sizeof how}, .at = 1, .size = size, .data = names[i],
            .good = ANY_HANDLE);
        TRY(CALL(openat2), .args = {AT_FDCWD, ADDRESS(names[i]), 0, sizeof how}, .at = 2, .size = sizeof how,
            .data = how, .good = ANY_HANDLE);
#ifdef __NR_open
        TRY(CALL(open), .args = {0, O_RDONLY}, .at = 0, .size = size, .data = names[i], .good = ANY_HANDLE);
#endif
    }
}

int main(int argc, char **argv)
{
    CHECK(argc >= 3 && argv[2]);
    enter_directory();
    int fd = make_file(path);
    map_memory();
    try_forms(fd);
    try_setting(fd);
    try_opening();
    CHECK(close(fd) == 0);
    return all_were_right();
}
