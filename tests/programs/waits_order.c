// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 args=flowing bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes on=static,i386 args=jumping bare=never
/* Threads and processes that wait for different times, one of them again and again: they go on in the
 * order of these, each when its own time has come, however far the clock is moved at once. */
#include "elapse.h"
#include <poll.h>
#include <sys/timerfd.h>

enum { STEPS = 12, WAITERS = 4, ENTRIES = STEPS * (WAITERS + 1) };

/* What happened, in order. */
static struct {
    volatile int count;
    struct { int who, step; int64_t at_ns; } entries[ENTRIES];
    int64_t from_ns;
} *log_;

static int64_t step_ns;

static void note(int who, int step)
{
    int i = __atomic_fetch_add(&log_->count, 1, __ATOMIC_SEQ_CST);
    CHECK(i < ENTRIES);
    log_->entries[i].at_ns = now_ns() - log_->from_ns;
    log_->entries[i].who = who;
    log_->entries[i].step = step;
}

/* Waiter `who` of each kind sleeps so many steps at a time. */
static void wait_again_and_again(int who)
{
    for (int step = who; step <= STEPS; step += who) {
        int64_t ns = who * step_ns, end_ns = log_->from_ns + step * step_ns;
        struct timespec end = timespec_of(end_ns);
        switch (who) {
        case 1: /* so that it does not lag behind in worlds where more than that passes */
            CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == 0);
            break;
        case 2: CHECK(poll(NULL, 0, ns / 1000000) == 0); break;
        case 3: sleep_ns(ns); break;
        default: {
            uint64_t count;
            struct itimerspec spec = {.it_value = end};
            int fd = timerfd_create(CLOCK_MONOTONIC, 0);
            CHECK(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
            CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1);
            close(fd);
        }
        }
        note(who, step);
    }
}

static void *wait_in_thread(void *who)
{
    wait_again_and_again((int)(intptr_t)who);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[2];
    pid_t children[2];
    int steps[WAITERS + 1] = {0};
    (void)argc;
    read_course(argv, 120000000);
    step_ns = length_ns / STEPS;
    log_ = shared_memory(sizeof *log_);
    log_->from_ns = now_ns();
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            wait_again_and_again(3 + i);
            _exit(0);
        }
    }
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_in_thread, (void *)(intptr_t)(1 + i)) == 0);
    if (is_asked()) {
        elapse(length_ns / 2);
        /* Relative waits that began a little late are a little late. */
        if (course == FROZEN)
            CHECK_EQUAL(log_->count, 6 + 3 + 2 + 1);
        elapse(length_ns / 2 + (course == FLOWING ? 60 * NSEC_PER_SEC : 0));
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        check_child(children[i]);
    }
    CHECK_EQUAL(log_->count, 12 + 6 + 4 + 3);
    for (int i = 0; i < log_->count; i++) {
        int who = log_->entries[i].who;
        CHECK_EQUAL(log_->entries[i].step, steps[who] + who);
        steps[who] += who;
        CHECK_ELAPSED(log_->entries[i].at_ns, steps[who] * step_ns);
        if (i > 0 && course != BARE)
            CHECK(log_->entries[i].at_ns >= log_->entries[i - 1].at_ns);
    }
    return success();
}
