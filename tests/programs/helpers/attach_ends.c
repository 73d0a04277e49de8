// built: on=static,dynamic
/* Has some threads, says "up", and ends with status 1 as the line on its standard input says:
 *
 *   exit     the first thread does it for all
 *   thread   another one does
 *   last     another one does, once the first has ended alone
 *   exec     another one executes this program anew, which does
 *   alone    the first one ends alone, and another one does it at the next line */
#include "../check.h"
#include <pthread.h>

static char line[16];
static char **arguments;

static int is_way(const char *name)
{
    return strncmp(line, name, strlen(name)) == 0;
}

static void wait_until_the_first_has_ended(void)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
    for (;;) {
        FILE *file = fopen(path, "r");
        CHECK(file && fgets(text, sizeof text, file) && fclose(file) == 0);
        if (strchr("ZX", strrchr(text, ')')[2]))
            return;
    }
}

static void *other(void *turn)
{
    char byte, *again[] = {arguments[0], "again", NULL};
    if (!turn)
        for (;;)
            pause();
    CHECK(read(*(int *)turn, &byte, 1) == 1);
    if (is_way("exec")) {
        execv(SELF, again);
        CHECK(!"exec");
    }
    if (is_way("last") || is_way("alone"))
        wait_until_the_first_has_ended();
    if (is_way("alone"))
        CHECK(read(0, &byte, 1) == 1);
    exit(1);
}

int main(int argc, char **argv)
{
    pthread_t thread;
    int turn[2];
    arguments = argv;
    if (argc > 1)
        return 1;
    CHECK(pipe(turn) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&thread, NULL, other, i ? NULL : turn) == 0);
    CHECK(write(1, "up\n", 3) == 3);
    CHECK(read(0, line, sizeof line - 1) > 0);
    if (is_way("exit"))
        return 1;
    CHECK(write(turn[1], "x", 1) == 1);
    if (is_way("last") || is_way("alone"))
        pthread_exit(NULL);
    for (;;)
        pause();
}
