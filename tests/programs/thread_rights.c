// run: start=1970-01-01T00:00:00Z as=root bare=never
/* To the kernel every thread has its own capabilities (capabilities(7)): one without CAP_SYS_TIME gets
 * EPERM, whatever the first thread may. It never runs bare: the host's clock could be set. */
#include "check.h"
#include <linux/capability.h>
#include <pthread.h>

static int64_t wall_ns;

static void *without_rights(void *unused)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
    struct timespec other = {86400, 0};
    CHECK(syscall(SYS_capset, &header, none) == 0);
    CHECK(syscall(SYS_clock_settime, CLOCK_REALTIME, &other) == -1 && errno == EPERM);
    check_wall(wall_ns);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    CHECK(argc == 3);
    wall_ns = start_ns(argv);
    check_wall(wall_ns);
    CHECK(pthread_create(&thread, NULL, without_rights, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    check_move(argv);
    return success();
}
