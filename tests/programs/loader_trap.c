// run: machine=x86_64 start=1970-01-01T00:00:00Z bare=fails
/* A program that finds the breakpoint left behind the kernel's vDSO and runs into it dies of it, as
 * of any other, whatever is in its registers; its tracer and the other programs go on. */
#include "vdso.h"
#include <signal.h>
#include <sys/mman.h>

enum { INT3 = 0xcc };

static void run_into(unsigned char *breakpoint, long result)
{
    static uint64_t no_vectors[512]; /* a stack with no argument and no auxiliary vector */
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        __asm__ volatile("mov %0, %%rsp\n jmp *%1"
                         : : "r"(no_vectors + 256), "r"(breakpoint), "a"(result) : "memory");
        __builtin_unreachable();
    }
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
}

int main(int argc, char **argv)
{
    char line[512];
    unsigned long start = 0, end = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(argc == 3 && maps);
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "[vdso]"))
            CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2);
    fclose(maps);
    CHECK(start);
    for (unsigned char *at = (unsigned char *)start; at < (unsigned char *)end; at++) {
        if (*at != INT3)
            continue;
        run_into(at, 0);
        run_into(at, 1 << 16 | ENOENT); /* as the loader says that it cannot open the page */
        run_into(at, -1);
    }
    check_move(argv);
    return success();
}
