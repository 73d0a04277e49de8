// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 args=flowing bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes on=static,i386 args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real args=bare bare=never
/* A signal that comes while a process waits. Its handler interrupts the wait, which tells what was left
 * of it, or is followed by the rest of the wait; SA_RESTART changes that for some calls. An ignored
 * signal changes nothing. */
#include "waits.h"

static void on_signal(int number)
{
    (void)number;
    /* A handler makes calls of its own. */
    CHECK(now_ns() >= scene->started_ns);
    scene->handled = 1;
}

/* The waiter does to SIGUSR1 what `action` says. It gets one after a part of the time, and another one
 * after a second part if it goes on. False if the first one came too late on a busy machine. */
static int is_checked(struct row *row, const struct sigaction *action, enum effect effect)
{
    int is_ignored = action->sa_handler == SIG_IGN;
    reset(row);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(sigaction(SIGUSR1, action, NULL) == 0);
        perform(row, length_ns);
        _exit(0);
    }
    if (course == BARE) {
        wait_until_set(&scene->started);
        wait_for_state(pid, 'S');
    }
    elapse(part_ns);
    check_waits(row);
    CHECK(kill(pid, SIGUSR1) == 0);
    if (course == BARE && now_ns() - scene->started_ns >= length_ns) {
        check_child(pid);
        return 0;
    }
    if (effect == INTERRUPTS) {
        check_child(pid);
        CHECK_ROW(row, scene->handled, 1);
        CHECK_ROW(row, scene->result, -EINTR);
        check_took(row, part_ns);
        check_rest(row, part_ns, 1);
        check_arguments(row);
        if (row->number == PSELECT6)
            CHECK_ROW(row, scene->set[SELECTED / 8], 1 << SELECTED % 8);
        return 1;
    }
    elapse(part_ns);
    if (course != BARE)
        CHECK_ROW(row, scene->handled, !is_ignored);
    check_waits(row);
    CHECK(kill(pid, SIGUSR1) == 0);
    if (is_asked()) {
        elapse(length_ns - 2 * part_ns - 60 * NSEC_PER_SEC);
        CHECK_ROW(row, scene->done, 0);
        elapse(60 * NSEC_PER_SEC);
        CHECK_ROW(row, scene->done, 1);
    }
    check_child(pid);
    if (is_ignored) /* to a traced process it comes all the same, and a sleep says what is left */
        memset(scene->rest, UNTOUCHED, sizeof scene->rest);
    check_expired(row);
    CHECK_ROW(row, scene->handled, !is_ignored);
    check_took(row, length_ns);
    return 1;
}

static void check_row(struct row *row, const struct sigaction *action, enum effect effect)
{
    int64_t bare_ns = effect == INTERRUPTS ? 5 * NSEC_PER_SEC : 40000000;
    do {
        set_bare_length(bare_ns);
        bare_ns *= 4;
    } while (!is_checked(row, action, effect));
}

int main(int argc, char **argv)
{
    struct sigaction once = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    struct sigaction restart = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    (void)argc;
    read_course(argv, 0);
    make_rows();
    for (int i = 0; i < row_count; i++) {
        check_row(&rows[i], &once, rows[i].handled);
        check_row(&rows[i], &restart, rows[i].handled_restarting);
#ifdef __aarch64__ /* where the kernel hides which call an ignored signal has ended; those of a read-only time too */
        int ends = rows[i].number == PPOLL || rows[i].number == PSELECT6;
        if (course == BARE && (rows[i].option || (ends && !rows[i].writes_rest)))
            continue;
#endif
        if (i % 4 == 0 || rows[i].handled)
            check_row(&rows[i], &ignore, RESTARTS);
    }
    remove_rows();
    return success();
}
