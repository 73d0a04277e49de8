// run: start=1970-01-01T00:00:01Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:01Z on=static,i386 args=flowing bare=never
// run: start=2000-01-01T00:00:00Z autojump=yes args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real args=bare bare=never
/* Times that are none get the kernel's own errors, and times that are over by now its own results: at
 * once, whatever the clock. */
#include "waits.h"

static int64_t started_ns;

static void check_at_once(const struct row *row)
{
    CHECK_ELAPSED(now_ns() - started_ns, 0);
    CHECK_ROW(row, now_ns() - started_ns < 5 * NSEC_PER_SEC, 1);
}

/* Puts seconds and a part of a second into the row's time as they are. */
static void perform_with(const struct row *row, int64_t sec, int64_t part)
{
    reset(row);
    fill_request(row, 0, 0);
    if (IS_NARROW(row)) {
        *(struct narrow *)timeout = (struct narrow){sec, part};
    } else {
        *timeout = (struct timeout){sec, part};
    }
    started_ns = now_ns();
    call_kernel(scene->request, scene->after);
    scene->result = scene->after[0];
}

static void clean_up(const struct row *row)
{
    if (row->event == COMPLETION)
        CHECK(syscall(SYS_io_destroy, scene->request[1]) == 0);
    check_at_once(row);
    check_arguments(row);
    check_filled(row, scene->rest, sizeof scene->rest, UNTOUCHED);
}

static void check_refused(const struct row *row, int64_t sec, int64_t part)
{
    perform_with(row, sec, part);
    CHECK_ROW(row, scene->result, -EINVAL);
    clean_up(row);
    if (!IS_NARROW(row)) {
        CHECK_ROW(row, timeout->a, sec);
        CHECK_ROW(row, timeout->b, part);
    }
    if (row->event == PIPE && scene->request[2] == P(scene->set))
        CHECK_ROW(row, scene->set[SELECTED / 8], 1 << SELECTED % 8);
}

static void check_fault(const struct row *row)
{
    reset(row);
    fill_request(row, 0, 0);
    scene->request[1 + row->at] = 8;
    started_ns = now_ns();
    call_kernel(scene->request, scene->after);
    CHECK_ROW(row, scene->after[0], -EFAULT);
    clean_up(row);
}

/* A relative time of nothing, or an absolute one that is over. */
static void check_over(const struct row *row, int64_t sec, int64_t part)
{
    perform_with(row, sec, part);
    CHECK_ROW(row, scene->result, row->expired);
    clean_up(row);
    if (row->event == PIPE && scene->request[2] == P(scene->set))
        check_filled(row, scene->set, sizeof scene->set, 0);
}

static void check_times(const struct row *row)
{
    if (row->event != COMPLETION) { /* the kernel takes any there, and adds up */
        check_refused(row, 0, NSEC_PER_SEC);
        check_refused(row, 1, -1);
        check_refused(row, -1, 0);
        check_refused(row, 5, INT32_MAX);
    }
    check_fault(row);
    check_over(row, 0, row->clock == RELATIVE ? 0 : 1);
    if (row->clock != RELATIVE) {
        int64_t before_ns = clock_ns(row->clock) - 500000000;
        check_over(row, before_ns / NSEC_PER_SEC, before_ns % NSEC_PER_SEC);
    }
}

static void check_socket_times(const struct row *row)
{
    struct timeval old = {0, 1000000}, none = {-1, 0}, some = {7, 250000}, got;
    socklen_t size = sizeof got;
    int option = row->option, fd = sockets[0];
#ifdef __i386__
    if (IS_NARROW(row))
        return; /* musl's own structure is the other one */
#endif
    CHECK(setsockopt(fd, SOL_SOCKET, option, &old, sizeof old) == -1 && errno == EDOM);
    CHECK(setsockopt(fd, SOL_SOCKET, option, &some, sizeof some) == 0);
    CHECK(getsockopt(fd, SOL_SOCKET, option, &got, &size) == 0);
    CHECK_EQUAL(got.tv_sec, 7);
    CHECK(got.tv_usec >= 250000 && got.tv_usec <= 260000);
    /* A negative one is over at once. */
    reset(row);
    fill_request(row, 0, 0);
    CHECK(setsockopt(scene->request[1], SOL_SOCKET, option, &none, sizeof none) == 0 || row->event == BYTE);
    CHECK(row->event != BYTE || setsockopt(fd, SOL_SOCKET, option, &none, sizeof none) == 0);
    started_ns = now_ns();
    call_kernel(scene->request, scene->after);
    CHECK_ROW(row, scene->after[0], -EAGAIN);
    check_at_once(row);
    if (row->event == ACCEPTANCE)
        close(scene->request[1]);
}

int main(int argc, char **argv)
{
    uint32_t word = 1;
    struct timespec hour = {3600, 0};
    (void)argc;
    read_course(argv, 20000000);
    make_rows();
    for (int i = 0; i < row_count; i++) {
        struct row *row = &rows[i];
        if (row->form == MILLISECONDS) {
            reset(row);
            perform(row, 0);
            check_expired(row);
            CHECK_ELAPSED(scene->ended_ns - scene->started_ns, 0);
        } else if (row->option) {
            check_socket_times(row);
        } else if (row->form != TIMEVAL) {
            check_times(row);
        }
    }
    started_ns = now_ns();
    /* Before any wait: a word that has changed, a clock that cannot be slept on, a file that is none. */
    CHECK(syscall(SYS_futex, &word, WAIT, 0, &hour) == -1 && errno == EAGAIN);
    CHECK(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, &hour, NULL) == -1 && errno == EOPNOTSUPP);
    CHECK(syscall(SYS_clock_nanosleep, CLOCK_REALTIME_COARSE, 0, &hour, NULL) == -1 && errno == EOPNOTSUPP);
    CHECK(syscall(SYS_clock_nanosleep, 100, 0, &hour, NULL) == -1 && errno == EINVAL);
    CHECK(epoll_wait(0, (void *)scene->events, 1, 1000000) == -1 && errno == EINVAL);
    CHECK(epoll_wait(epoll_fd, (void *)scene->events, 0, 1000000) == -1 && errno == EINVAL);
    CHECK(epoll_wait(999, (void *)scene->events, 1, 1000000) == -1 && errno == EBADF);
    CHECK(poll((void *)8, 1, 1000000) == -1 && errno == EFAULT);
    CHECK(select(-1, NULL, NULL, NULL, &(struct timeval){9999, 0}) == -1 && errno == EINVAL);
    CHECK(semop(semaphore, NULL, 0) == -1 && errno == EINVAL);
    struct pollfd closed = {.fd = 999, .events = POLLIN};
    CHECK(poll(&closed, 1, 1000000) == 1 && closed.revents == POLLNVAL);
    CHECK_ELAPSED(now_ns() - started_ns, 0);
    CHECK(now_ns() - started_ns < 5 * NSEC_PER_SEC);

    remove_rows();
    return success();
}
