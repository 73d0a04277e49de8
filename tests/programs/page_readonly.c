// run: start=1970-01-01T00:00:00Z on=static,dynamic,i386 bare=fails
/* A program cannot change the clock for itself or for others through the memory it reads it from,
 * nor through the file behind it, not even as root. */
#include "vdso.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

struct mapping {
    unsigned long start, end;
    char access[5];
    unsigned long inode;
};

/* The shared mapping below the image: the clock page. */
static struct mapping find_page(uintptr_t image)
{
    struct mapping line, page = {0};
    char text[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(text, sizeof text, maps)) {
        CHECK(sscanf(text, "%lx-%lx %4s %*x %*s %lu", &line.start, &line.end, line.access,
                     &line.inode) == 4);
        CHECK(!(line.access[1] == 'w' && line.access[2] == 'x'));
        if (line.end <= image && line.access[3] == 's')
            page = line;
    }
    fclose(maps);
    CHECK(page.start && page.inode && image - page.start < 16 * 4096);
    CHECK(strcmp(page.access, "r--s") == 0);
    return page;
}

static void check_write_faults(volatile char *address)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        *address = 1;
        _exit(0);
    }
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void check_file(const struct mapping *page)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", page->start, page->end);
    int fd = open(path, O_RDWR);
    if (fd < 0) { /* not root, or the file was opened for reading only */
        CHECK(errno == EPERM || errno == EACCES);
        return;
    }
    CHECK(pwrite(fd, path, 8, 0) == -1 && errno == EPERM);
    CHECK(ftruncate(fd, 0) == -1 && errno == EPERM);
    CHECK(ftruncate(fd, 1 << 20) == -1 && errno == EPERM);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    CHECK_EQUAL(errno, EPERM);
    close(fd);
}

int main(int argc, char **argv)
{
    uintptr_t image = getauxval(AT_SYSINFO_EHDR);
    struct mapping page = find_page(image);
    void *address = (void *)page.start;

    CHECK(argc == 3);
    check_wall(start_ns(argv));
    check_write_faults(address);
    CHECK(mprotect(address, 4096, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
    CHECK(mprotect(address, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == -1 && errno == EACCES);
    void *copy = mremap(address, 0, 4096, MREMAP_MAYMOVE); /* a second mapping of the same page */
    if (copy != MAP_FAILED) {
        check_write_faults(copy);
        CHECK(mprotect(copy, 4096, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
    }
    CHECK(madvise(address, 4096, MADV_REMOVE) == -1);
    CHECK(read(open("/dev/zero", O_RDONLY), address, 8) == -1 && errno == EFAULT);
    check_file(&page);
    check_wall(start_ns(argv));
    check_move(argv);
    return success();
}
