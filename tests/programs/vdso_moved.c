// run: start=1970-01-01T00:00:00Z bare=fails
/* A program that moves the kernel's vDSO, as checkpointing ones do (vdso_mremap,
 * arch/x86/entry/vdso/vma.c), and looks its functions up again at the new place is told its clock
 * there. Its old pointers it does not use any more; what it was given lies where it lay. */
#include "vdso.h"
#include <sys/mman.h>

/* The lowest and the highest address of the mappings named [vvar...] and [vdso]. */
static void find(uintptr_t *start, uintptr_t *vdso, uintptr_t *end)
{
    char line[512];
    unsigned long from, to;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    *start = 0;
    while (fgets(line, sizeof line, maps)) {
        CHECK(sscanf(line, "%lx-%lx", &from, &to) == 2);
        if (!strstr(line, "[vvar") && !strstr(line, "[vdso]"))
            continue;
        if (!*start)
            *start = from;
        if (strstr(line, "[vdso]"))
            *vdso = from;
        *end = to;
    }
    fclose(maps);
    CHECK(*start && *vdso > *start && *end > *vdso);
}

static void check_functions(uintptr_t base, int64_t wall_ns)
{
    struct image image = read_image(base);
    long (*gettime)(clockid_t, struct timespec *) = find_symbol(&image, VDSO("clock_gettime"));
    struct timespec ts = {-1, -1}, raw;
    CHECK(gettime);
    CHECK(gettime(CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), wall_ns);
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &raw) == 0);
    CHECK(gettime(CLOCK_MONOTONIC, &ts) == 0);
    CHECK(in_ns(ts) >= in_ns(raw) && in_ns(ts) - in_ns(raw) < 60 * NSEC_PER_SEC);
}

int main(int argc, char **argv)
{
    char line[512];
    uintptr_t start, vdso, end, part[8][2];
    unsigned long from, to;
    int count = 0;
    struct timespec ts;
    CHECK(argc == 3);
    check_wall(start_ns(argv));
    find(&start, &vdso, &end);
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps)) {
        CHECK(sscanf(line, "%lx-%lx", &from, &to) == 2);
        if (from >= start && to <= end)
            part[count][0] = from, part[count++][1] = to;
    }
    fclose(maps);
    char *place = mmap(NULL, end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(place != MAP_FAILED);
    for (int i = 0; i < count; i++) {
        char *to = place + (part[i][0] - start);
        size_t size = part[i][1] - part[i][0];
        CHECK(mremap((void *)part[i][0], size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    }
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), start_ns(argv));
    check_functions((uintptr_t)place + (vdso - start), start_ns(argv));
    CHECK(write(1, "MOVE\n", 5) == 5);
    CHECK(read(0, line, 1) == 1);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    CHECK_EQUAL(in_ns(ts), strtoll(argv[2], NULL, 10));
    check_functions((uintptr_t)place + (vdso - start), strtoll(argv[2], NULL, 10));
    return success();
}
