// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* The page that all programs of a clock share cannot be changed by one of them, by no way around the
 * protection of its own mapping (page_readonly.c) and by no descriptor of the file behind it. */
#include "vdso.h"
#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

static char **arguments;

static void check_memory_interfaces(char *page)
{
    char junk[64];
    struct iovec from = {junk, sizeof junk}, to = {page, sizeof junk};
    memset(junk, 0x5a, sizeof junk);
    CHECK(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == -1 && errno == EFAULT);
    int fd = open("/proc/self/mem", O_RDWR);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, junk, sizeof junk, (off_t)page) == -1);
    CHECK(close(fd) == 0);
    CHECK(madvise(page, 4096, MADV_REMOVE) == -1);
    madvise(page, 4096, MADV_DONTNEED);
    madvise(page, 4096, MADV_PAGEOUT);
    madvise(page, 4096, MADV_WIPEONFORK);
    CHECK(syscall(SYS_mincore, page, 4096, junk) == 0);
    CHECK(mprotect(page, 4096, PROT_WRITE) == -1 && errno == EACCES);
    CHECK(syscall(SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_WRITE, -1) == -1);
    check_wall(start_ns(arguments));
}

/* Every one that can be had of the file; the tracer's own is root's to open. */
static void check_descriptor(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        CHECK(errno == EPERM || errno == EACCES || errno == ENOENT);
        return;
    }
    CHECK(write(fd, path, 8) == -1 && pwrite(fd, path, 8, 4096) == -1);
    CHECK(ftruncate(fd, 0) == -1 && ftruncate(fd, 1 << 24) == -1);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1);
    CHECK(fallocate(fd, 0x10 | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1); /* ZERO_RANGE */
    CHECK(fallocate(fd, 0, 0, 1 << 24) == -1);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EPERM);
    int seals = fcntl(fd, F_GET_SEALS);
    CHECK(seals & F_SEAL_FUTURE_WRITE && seals & F_SEAL_SHRINK && seals & F_SEAL_SEAL);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) {
        CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == -1);
        check_memory_interfaces(page);
        CHECK(munmap(page, 4096) == 0);
    }
    CHECK(close(fd) == 0);
}

static void check_file(const char *path)
{
    check_descriptor(path, O_RDONLY);
    check_descriptor(path, O_RDWR);
    check_descriptor(path, O_WRONLY);
    check_descriptor(path, O_RDWR | O_TRUNC);
    CHECK(truncate(path, 0) == -1);
}

/* Whoever holds the file, among the processes that this one may look at. */
static void check_holders(unsigned long inode)
{
    char path[300], wanted[64], target[128];
    struct dirent *process, *file;
    DIR *processes = opendir("/proc");
    CHECK(processes);
    snprintf(wanted, sizeof wanted, "/memfd:vdsotime (deleted)");
    while ((process = readdir(processes))) {
        if (atoi(process->d_name) < 2)
            continue;
        snprintf(path, sizeof path, "/proc/%s/fd", process->d_name);
        DIR *files = opendir(path);
        while (files && (file = readdir(files))) {
            snprintf(path, sizeof path, "/proc/%s/fd/%s", process->d_name, file->d_name);
            ssize_t length = readlink(path, target, sizeof target - 1);
            if (length < 0)
                continue;
            target[length] = 0;
            struct stat status;
            if (strcmp(target, wanted) == 0 && stat(path, &status) == 0 && status.st_ino == inode)
                check_file(path);
        }
        if (files)
            closedir(files);
    }
    closedir(processes);
}

int main(int argc, char **argv)
{
    char line[512], path[64];
    unsigned long start = 0, end = 0, inode = 0, image = getauxval(AT_SYSINFO_EHDR);
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(argc == 3 && maps);
    arguments = argv;
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "/memfd:vdsotime") && strstr(line, " r--s "))
            CHECK(sscanf(line, "%lx-%lx %*s %*x %*s %lu", &start, &end, &inode) == 3);
    fclose(maps);
    CHECK(start && end <= image);
    check_wall(start_ns(argv));
    check_memory_interfaces((char *)start);
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", start, end);
    check_file(path);
    check_holders(inode);
    check_wall(start_ns(argv));
    check_move(argv);
    return success();
}
