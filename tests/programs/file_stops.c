// run: machine=x86_64 start=2038-01-19T03:14:08Z files=follow on=static,i386,i386-dynamic bare=passes
// run: start=2038-01-19T03:14:08Z files=follow on=dynamic bare=passes
/* A call that tells the times of a file stops once: a program gives up its processor by its own will no more often than that.
 * On 64-bit Arm those that libraries make: a static program lies far from its vDSO. */
#include "files.h"
#include <sys/resource.h>

#define CALLS 200

static long given_up(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_nvcsw;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3 && argv[2]);
    enter_directory();
    int fd = make_file("f");
    for (const struct form *form = forms; form < forms + FORMS; form++) {
        long result = is_refused(form, fd, NULL) ? -EOVERFLOW : 0, before = given_up();
        for (int i = 0; i < CALLS; i++)
            CHECK_EQUAL(ask(form, "f", fd), result);
        long times = given_up() - before;
        if (times > CALLS + CALLS / 10) {
            dprintf(2, "%s: stopped %ld times in %d calls\n", form->name, times, CALLS);
            return 1;
        }
    }
    CHECK(close(fd) == 0);
    return success();
}
