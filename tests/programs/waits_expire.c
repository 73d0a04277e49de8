// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 args=flowing bare=never
// run: start=2000-01-01T00:00:00Z rate=3600 monotonic=rate on=static,i386 args=fast bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes on=static,i386 args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real on=static,i386 args=bare bare=never
/* Every wait lasts as long as it says, and ends as one does whose time is up: its result, the rest of
 * its time, its sets. It changes nothing else, neither registers nor memory. */
#include "waits.h"

static void *wait_in_thread(void *row)
{
    perform(row, length_ns);
    return NULL;
}

static void check_row(struct row *row)
{
    pthread_t thread;
    int64_t last_ns = 60 * NSEC_PER_SEC;
    reset(row);
    if (is_asked()) {
        CHECK(pthread_create(&thread, NULL, wait_in_thread, row) == 0);
        elapse(length_ns - last_ns);
        CHECK_ROW(row, scene->done, 0);
        elapse(last_ns);
        check_expired(row);
        CHECK(pthread_join(thread, NULL) == 0);
    } else {
        perform(row, length_ns);
        check_expired(row);
    }
    check_took(row, length_ns);
}

int main(int argc, char **argv)
{
    (void)argc;
    read_course(argv, 20000000);
    make_rows();
    for (int i = 0; i < row_count; i++) {
#ifdef __i386__
        if (i % 2)
            entry_point = kernel_vsyscall();
        else
            entry_point = int80;
#endif
        check_row(&rows[i]);
    }
    remove_rows();
    return success();
}
