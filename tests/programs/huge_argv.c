// run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails
/* Megabytes of arguments and environment, as much as execve(2) takes: three quarters of 8 MiB. All of
 * it arrives, and behind it the auxiliary vector that a takeover must find. */
#include "check.h"
#include <sys/auxv.h>
#include <sys/resource.h>

enum { STRINGS = 48, LENGTH = 60000, TOTAL = 2 * STRINGS };

extern char **environ;

static void check_strings(char **strings)
{
    for (int i = 0; i < STRINGS; i++) {
        CHECK(strings[i]);
        CHECK_EQUAL(strlen(strings[i]), LENGTH - 1);
        CHECK(strings[i][0] == 'V' && strings[i][2] == (char)('A' + i % 26));
    }
    CHECK(!strings[STRINGS]);
}

int main(int argc, char **argv)
{
    static char text[STRINGS][LENGTH];
    static char *arguments[3 + STRINGS + 1], *environment[STRINGS + 1];
    struct rlimit stack = {64 << 20, RLIM_INFINITY};

    check_wall(start_ns(argv));
    if (argc > 3) {
        check_strings(argv + 3);
        check_strings(environ);
        CHECK(strcmp((char *)getauxval(AT_EXECFN), SELF) == 0);
        return success();
    }
    CHECK(setrlimit(RLIMIT_STACK, &stack) == 0);
    memcpy(arguments, argv, 3 * sizeof *argv);
    for (int i = 0; i < STRINGS; i++) {
        memset(text[i], 'x', LENGTH - 1);
        memcpy(text[i], "V=", 2);
        text[i][2] = 'A' + i % 26;
        arguments[3 + i] = environment[i] = text[i];
    }
    execve(SELF, arguments, environment);
    CHECK(!"exec");
}
