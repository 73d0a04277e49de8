// run: start=now rate=1 on=static,dynamic,i386,i386-dynamic args=stamps bare=passes
// run: start=now rate=1 monotonic=rate on=static,i386 args=stamps,copied bare=never
// run: start=now rate=1 on=static,i386 args=stamps native=no bare=never
// run: start=2000-01-01T00:00:00Z rate=1 on=static,i386 args=moved bare=fails
// run: start=2000-01-01T00:00:00Z rate=60 on=static,i386 args=order bare=passes
// run: start=2000-01-01T00:00:00Z rate=1000000 monotonic=rate args=order bare=never
// run: start=2000-01-01T00:00:00Z rate=0.25 monotonic=rate args=slow bare=passes
/* On a line that flows the coarse clocks and time(2) are at the kernel's last tick, by every way of
 * reading: they never go back, and are never later than an exact reading after them. Where the wall
 * clock is the host's, no file is older than what they read before it was made: its stamp is of the
 * last tick or later (current_time(), fs/inode.c). */
#include "vdso.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

typedef int64_t read_fn(clockid_t);
typedef long time_fn(long *);

static const clockid_t exact_ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC};
static const clockid_t coarse_ids[] = {CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};

static long (*vdso_clock_gettime)(clockid_t, struct wide_timespec *);
static time_fn *vdso_time;

static int64_t by_vdso(clockid_t id)
{
    struct wide_timespec ts;
    CHECK(vdso_clock_gettime(id, &ts) == 0);
    return ts.sec * NSEC_PER_SEC + ts.nsec;
}

static int64_t by_call(clockid_t id)
{
    struct timespec ts;
    CHECK(syscall(SYS_clock_gettime, id, &ts) == 0);
    return in_ns(ts);
}

static read_fn *const reads[] = {clock_ns, by_vdso, by_call};
enum { READS = sizeof reads / sizeof *reads };

/* Each way to read the seconds that this machine has. musl's own time() asks for the exact clock. */
static int64_t seconds(unsigned way)
{
    switch (way % 3) {
#ifdef SYS_time
    case 0:
        return syscall(SYS_time, NULL);
#endif
#ifdef __GLIBC__
    case 1:
        return time(NULL);
#endif
    case 2:
        if (vdso_time)
            return vdso_time(NULL);
        break;
    }
    return by_vdso(CLOCK_REALTIME_COARSE) / NSEC_PER_SEC;
}

static void check_order(int line, read_fn *read, read_fn *other)
{
    int64_t former = 0;
    int stood = 0;
    for (int i = 0; i < 300; i++) {
        int64_t before = read(exact_ids[line]);
        int64_t coarse[] = {read(coarse_ids[line]), other(coarse_ids[line]), read(coarse_ids[line])};
        int64_t after = read(exact_ids[line]);
        CHECK(former <= coarse[0]);
        CHECK(coarse[0] <= coarse[1] && coarse[1] <= coarse[2]); /* the same at one tick */
        CHECK(coarse[2] <= after);
        CHECK(before <= after);
        stood += before < after && coarse[0] == coarse[2];
        former = coarse[2];
    }
    CHECK(stood > 0);
}

/* Over the beginning of a second, where the exact clock has it for up to a tick before. */
static void check_seconds(void)
{
    int64_t first = by_vdso(CLOCK_REALTIME_COARSE) / NSEC_PER_SEC, last;
    unsigned way = 0;
    do {
        struct timeval tv;
        int64_t before = clock_ns(CLOCK_REALTIME), begun = by_vdso(CLOCK_REALTIME_COARSE) / NSEC_PER_SEC;
        int64_t told = seconds(way++);
        /* At a tick the kernel sees to its own seconds first and then to those of the vDSO (timekeeping_update), since Linux
         * 6.13 in the other order (timekeeping_update_from_shadow). */
        for (int i = 0; i < 1000000 && told < begun; i++)
            told = seconds(way - 1);
        for (int i = 0; i < 10000000; i++)
            if ((last = by_vdso(CLOCK_REALTIME_COARSE) / NSEC_PER_SEC) >= told)
                break;
        CHECK(begun <= told && told <= last);
        CHECK(gettimeofday(&tv, NULL) == 0);
        int64_t microseconds = tv.tv_sec * 1000000LL + tv.tv_usec;
        CHECK(before / 1000 <= microseconds && microseconds <= clock_ns(CLOCK_REALTIME) / 1000);
    } while (last == first || way < 30);
}

static int64_t stamp(int fd)
{
    struct stat status;
    CHECK(fstat(fd, &status) == 0);
    return in_ns(status.st_mtim);
}

static void check_stamps(void)
{
    for (unsigned i = 0; i < 600; i++) {
        int64_t coarse = reads[i % READS](CLOCK_REALTIME_COARSE), second = seconds(i);
        int fd = memfd_create("stamps", 0);
        CHECK(fd >= 0);
        int64_t made = stamp(fd);
        CHECK(write(fd, "", 1) == 1);
        int64_t written = stamp(fd);
        CHECK(close(fd) == 0);
        CHECK(coarse <= made && made <= written);
        CHECK(second <= made / NSEC_PER_SEC);
        CHECK(written <= reads[i % READS](CLOCK_REALTIME));
    }
}

/* The kernel's are exact when its clock has been set, between ticks as it is. */
static void check_since(int64_t from_ns)
{
    for (unsigned i = 0; i < 3; i++) {
        CHECK(reads[i](CLOCK_REALTIME_COARSE) >= from_ns);
        CHECK(seconds(i) >= from_ns / NSEC_PER_SEC);
        CHECK(reads[i](CLOCK_REALTIME_COARSE) < from_ns + 30 * NSEC_PER_SEC);
    }
}

static void check_moved(char **argv)
{
    int64_t start_s = start_ns(argv) / NSEC_PER_SEC;
    check_since(start_ns(argv));
    for (int i = 0; i < 30; i++) {
        char line;
        dprintf(1, "MOVE_TO %lld\n", (long long)(start_s + (i % 3 - 1) * 3600));
        CHECK(read(0, &line, 1) == 1);
        check_since((start_s + (i % 3 - 1) * 3600) * NSEC_PER_SEC);
    }
}

/* A program that may not open a file more gets a copy of the page; then it may again. */
static void be_copied(char **argv)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur > 3) {
        limit.rlim_cur = 3;
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        execv(SELF, argv);
        CHECK(!"exec");
    }
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);

    static char line[4096];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps))
        CHECK(!strstr(line, "memfd:vdsotime"));
    fclose(maps);
}

int main(int argc, char **argv)
{
    struct image image = program_image();
    vdso_clock_gettime = find_symbol(&image, VDSO_CLOCK_GETTIME);
    vdso_time = find_symbol(&image, VDSO("time"));
    CHECK(argc >= 4 && vdso_clock_gettime);
    if (argc == 5)
        be_copied(argv);
    if (has_role(argv, "moved")) {
        check_moved(argv);
        return success();
    }
    if (has_role(argv, "stamps"))
        check_stamps();
    for (int line = 0; line < 2; line++)
        for (int i = 0; i < READS; i++)
            check_order(line, reads[i], reads[(i + 1) % READS]);
    if (!has_role(argv, "slow"))
        check_seconds();
    if (has_role(argv, "stamps"))
        check_stamps();
    return success();
}
