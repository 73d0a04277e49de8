// run: start=2038-01-19T03:14:08Z files=follow on=static,i386 bare=passes
// run: start=2038-01-19T03:14:08Z files=follow native=no on=static bare=never
// run: start=2038-01-19T03:14:08Z files=follow rate=1000 on=static bare=never
/* Threads ask for the times of a name that comes and goes, and of a descriptor that is closed and opened again: each
 * answer is whole, or is the kernel's error. */
#include "files.h"
#include <pthread.h>
#include <stdatomic.h>

enum { ROUNDS = 300, THREADS = 3 };
static atomic_int is_over;
static int shared;

/* A file whose times are all the same minute, at most, apart. */
static void check_whole(const struct form *form)
{
    int64_t seconds[TIMES] = {0};
    for (int which = 0; which < BTIME; which++) {
        int32_t narrow;
        memcpy(&seconds[which], answer + form->at[which], sizeof(int64_t));
        memcpy(&narrow, answer + form->at[which], sizeof narrow);
        if (form->seconds < 8)
            seconds[which] = (uint32_t)narrow;
        int64_t apart = seconds[which] - seconds[0];
        CHECK(apart <= 100000 && apart >= -100000);
    }
}

static void *come_and_go(void *unused)
{
    (void)unused;
    while (!is_over) {
        int fd = open("g", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        CHECK(fd >= 0 && dup2(fd, shared) == shared && close(fd) == 0);
        CHECK(rename("g", "f") == 0 && close(shared) == 0);
        CHECK(unlink("f") == 0);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    int seen = 0, missed = 0;
    CHECK(argc == 3 && argv[2]);
    enter_directory();
    shared = 77;
    CHECK(pthread_create(&threads[0], NULL, come_and_go, NULL) == 0);
    for (int round = 0; round < 20000 * ROUNDS && (round < ROUNDS || !seen || !missed); round++) {
        for (const struct form *form = forms; form < forms + FORMS; form++) {
            long result = ask(form, "f", shared);
            if (result == 0) {
                check_whole(form);
                check_untouched_from(form->size);
                seen++;
            } else {
                CHECK(result == (HAS_PATH(form) ? -ENOENT : -EBADF) || (form->is_old && result == -EOVERFLOW));
                check_untouched_from(0);
                missed++;
            }
        }
    }
    is_over = 1;
    CHECK(pthread_join(threads[0], NULL) == 0);
    CHECK(seen && missed);
    return success();
}
