// run: start=1970-01-01T00:00:00Z bare=fails
/* Memory that was not executable may not become so (PR_SET_MDWE, prctl(2), since Linux 6.3; service
 * managers set it), before an exec after which the shared page cannot be opened either. */
#include "check.h"
#include <sys/prctl.h>
#include <sys/resource.h>

enum { SET_MDWE = 65, GET_MDWE = 66, REFUSE_EXEC_GAIN = 1 };

int main(int argc, char **argv)
{
    struct rlimit full = {3, 3};
    CHECK(argc >= 3);
    check_wall(start_ns(argv));
    if (argc == 3) {
        CHECK(prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) == 0 || errno == EINVAL);
        exec_role(argv, "shared");
    }
    CHECK(prctl(GET_MDWE, 0, 0, 0, 0) == REFUSE_EXEC_GAIN || errno == EINVAL);
    if (has_role(argv, "shared")) {
        CHECK(setrlimit(RLIMIT_NOFILE, &full) == 0);
        exec_role(argv, "private");
    }
    check_move(argv);
    return success();
}
