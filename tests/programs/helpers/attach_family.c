// built: on=static,dynamic,i386
/* Answers each line on its standard input, each time it is asked by another of its family: itself, a
 * forked child, a vforked one that executes this program anew, a child of that. Each says what time
 * it is by clock_gettime, time and a system call, which must agree.
 *
 * "keep": the children that were there stay, and answer from then on as well. */
#include "../check.h"
#include <spawn.h>

extern char **environ;

/* The kernel's time(2) is as old as its last tick. */
static void check_agrees(int64_t other, int64_t now)
{
    CHECK(other - now >= -1 && other - now < 5);
}

static void say(const char *who)
{
    int64_t now = clock_ns(CLOCK_REALTIME) / NSEC_PER_SEC;
    check_agrees(time(NULL), now);
    check_agrees(raw_time(), now);
    dprintf(1, "%s %lld\n", who, (long long)now);
}

static void serve(const char *who)
{
    char line[64];
    while (fgets(line, sizeof line, stdin))
        say(who);
    _exit(0);
}

int main(int argc, char **argv)
{
    char line[64];
    setvbuf(stdin, NULL, _IONBF, 0);
    if (argc > 1 && strcmp(argv[1], "serve") == 0)
        serve("executed");
    if (argc > 1) {
        pid_t pid = fork();
        if (pid == 0) {
            say("grandchild");
            _exit(0);
        }
        check_child(pid);
        say("executed");
        return 0;
    }
    dprintf(1, "up\n");
    while (fgets(line, sizeof line, stdin)) {
        pid_t pid;
        char *again[] = {argv[0], "once", NULL}, *forever[] = {argv[0], "serve", NULL};
        if (strcmp(line, "serve\n") == 0) {
            /* From here on the executed child answers, and a forked one has the rest. */
            CHECK(posix_spawn(&pid, SELF, NULL, NULL, forever, environ) == 0);
            check_child(pid);
            return 0;
        }
        if (strcmp(line, "fork\n") == 0) {
            if ((pid = fork()) == 0)
                serve("forked");
            check_child(pid);
            return 0;
        }
        say("itself");
        if ((pid = fork()) == 0) {
            say("forked");
            _exit(0);
        }
        check_child(pid);
        CHECK(posix_spawn(&pid, SELF, NULL, NULL, again, environ) == 0);
        check_child(pid);
        dprintf(1, "end\n");
    }
    return 0;
}
