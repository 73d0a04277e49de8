// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 args=flowing bare=never
// run: start=2000-01-01T00:00:00Z waits=real args=bare bare=never
// run: start=2000-01-01T00:00:00Z waits=real args=bare native=no bare=never
/* A process that is stopped while it waits, and goes on: so does its wait, to the same point of time,
 * but for the calls that signal(7) lists. If that point is passed meanwhile, it ends at SIGCONT. */
#include "waits.h"

static pid_t start_waiter(struct row *row)
{
    set_bare_length(row->stopped == INTERRUPTS ? 5 * NSEC_PER_SEC : 40000000);
    reset(row);
    pid_t pid = fork();
    if (pid == 0) {
        perform(row, length_ns);
        _exit(0);
    }
    /* Where the clock flows every other wait has begun when it is moved, without the tracer. */
    if (course == BARE || (course == FLOWING && (row - rows) % 2)) {
        wait_until_set(&scene->started);
        wait_for_state(pid, 'S');
    }
    elapse(part_ns);
    check_waits(row);
    return pid;
}

/* False if that came too late on a busy machine. */
static int stop(pid_t pid)
{
    int status;
    CHECK(kill(pid, SIGSTOP) == 0);
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    if (course == BARE && status == 0)
        return 0;
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    return 1;
}

static void check_went_on(const struct row *row)
{
    /* Sleeps that go on may have said what was left of them when they were stopped. */
    memset(scene->rest, UNTOUCHED, sizeof scene->rest);
    check_expired(row);
}

static void stop_and_go_on(struct row *row)
{
    pid_t pid = start_waiter(row);
    if (!stop(pid))
        return;
    elapse(part_ns);
    CHECK(kill(pid, SIGCONT) == 0);
    if (row->stopped == INTERRUPTS) {
        check_child(pid);
        CHECK_ROW(row, scene->result, -EINTR);
        check_took(row, 2 * part_ns);
        if (row->writes_rest)
            check_rest(row, part_ns, 1);
        check_arguments(row);
        return;
    }
    if (is_asked()) {
        elapse(length_ns - 2 * part_ns - 60 * NSEC_PER_SEC);
        CHECK_ROW(row, scene->done, 0);
        elapse(60 * NSEC_PER_SEC);
        if (row->event == COMPLETION) /* made again as it was, with all of its time */
            elapse(2 * part_ns);
    }
    check_child(pid);
    check_went_on(row);
    if (row->event == COMPLETION)
        CHECK(scene->ended_ns - scene->started_ns >= length_ns);
    else
        check_took(row, length_ns);
}

static void expire_while_stopped(struct row *row)
{
    pid_t pid = start_waiter(row);
    int64_t stopped_ns = course == BARE && row->stopped == INTERRUPTS ? part_ns : 2 * length_ns;
    if (!stop(pid))
        return;
    elapse(stopped_ns);
    check_waits(row);
    CHECK(kill(pid, SIGCONT) == 0);
    check_child(pid);
    if (row->stopped == INTERRUPTS) {
        CHECK_ROW(row, scene->result, -EINTR);
        check_arguments(row);
    } else {
        check_went_on(row);
    }
    if (course != BARE || row->stopped == INTERRUPTS)
        check_took(row, part_ns + stopped_ns);
}

int main(int argc, char **argv)
{
    (void)argc;
    read_course(argv, 0);
    make_rows();
    for (int i = 0; i < row_count; i++) {
        stop_and_go_on(&rows[i]);
        if (rows[i].event != COMPLETION && (course != BARE || i % 4 == 0))
            expire_while_stopped(&rows[i]);
    }
    remove_rows();
    return success();
}
