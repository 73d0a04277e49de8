// run: start=2038-01-19T03:14:08Z files=follow on=static,i386 bare=fails
// run: start=2038-01-19T03:14:08Z files=follow native=no on=static bare=never
/* A program that unmaps the page with its clock, or has something else there, still has the times of its files. */
#include "files.h"
#include <sys/mman.h>

static void cover(int is_covered)
{
    char line[512];
    unsigned long start, end;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps);
    while (fgets(line, sizeof line, maps)) {
        CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2);
        if (!strstr(line, "/memfd:vdsotime") || strstr(line, "r-xp"))
            continue;
        CHECK(munmap((void *)start, end - start) == 0);
        if (!is_covered)
            continue;
        void *other = mmap((void *)start, end - start, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        CHECK(other == (void *)start);
        memset(other, 1, end - start); /* as a page that is being written */
    }
    CHECK(fclose(maps) == 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    int64_t now_ns = start_ns(argv);
    enter_directory();
    int fd = make_file("f");
    check_times("f", fd, now_ns, now_ns, now_ns, now_ns);
    for (int is_covered = 0; is_covered < 2; is_covered++) {
        pid_t pid = fork();
        if (pid == 0) {
            cover(is_covered);
            check_times("f", fd, now_ns, now_ns, now_ns, now_ns);
            _exit(0);
        }
        check_child(pid);
    }
    CHECK(close(fd) == 0);
    return success();
}
