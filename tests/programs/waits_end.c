// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 args=flowing bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes on=static,i386 args=jumping bare=never
// run: start=2000-01-01T00:00:00Z waits=real args=bare bare=never
/* Waits that end because of what they wait for: sooner than their time is up, at once, after any time
 * where they have no time, or at the very moment when it is up. They say so, and lose nothing. */
#include "waits.h"

static void check_ended(const struct row *row, int64_t elapsed_ns)
{
    CHECK_ROW(row, scene->done, 1);
    if (row->event == CONNECTION)
        CHECK_ROW(row, scene->result < 0, 0);
    else
        CHECK_ROW(row, scene->result, row->ended);
    check_took(row, elapsed_ns);
    check_arguments(row);
    if (scene->request[1] == P(&scene->pollfd))
        CHECK_ROW(row, scene->pollfd.revents, POLLIN);
    else if (row->event == PIPE && (scene->request[2] == P(scene->set) || row->at == -1))
        CHECK_ROW(row, scene->set[SELECTED / 8], 1 << SELECTED % 8);
    if (row->event == REQUEUE)
        CHECK_ROW(row, scene->second_word != 0, 1);
}

static pid_t start_waiter(const struct row *row, int64_t ns)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        perform(row, ns);
        _exit(0);
    }
    if (course == BARE) {
        wait_until_set(&scene->started);
        wait_for_state(pid, 'S');
    }
    return pid;
}

static void end_sooner(const struct row *row)
{
    set_bare_length(5 * NSEC_PER_SEC);
    reset(row);
    pid_t pid = start_waiter(row, length_ns);
    elapse(part_ns);
    CHECK_ROW(row, scene->done, 0);
    end_wait(row, pid);
    check_child(pid);
    check_ended(row, part_ns);
    check_rest(row, part_ns, 0);
}

/* NULL, -1, or no timeout of the socket. */
static void wait_without_time(const struct row *row)
{
    int64_t elapsed_ns = course == BARE ? part_ns : 3 * length_ns;
    reset(row);
    pid_t pid = start_waiter(row, -1);
    elapse(elapsed_ns);
    CHECK_ROW(row, scene->done, 0);
    end_wait(row, pid);
    check_child(pid);
    check_ended(row, elapsed_ns);
}

static void end_at_once(const struct row *row)
{
    if (row->event == WAKE || row->event == REQUEUE || row->event == UNLOCK)
        return; /* who comes too late has nobody to wake */
    reset(row);
    end_wait(row, getpid());
    perform(row, length_ns);
    check_ended(row, 0);
    check_rest(row, 0, 0);
}

/* Another process makes it happen when it has slept for as long. */
static void end_at_that_moment(const struct row *row)
{
    static char byte;
    struct timespec none = {0, 0};
    set_bare_length(30000000);
    reset(row);
    pid_t waiter = start_waiter(row, length_ns);
    pid_t other = fork();
    if (other == 0) {
        sleep_ns(length_ns);
        end_wait(row, waiter);
        _exit(0);
    }
    if (is_asked())
        elapse(length_ns);
    check_child(waiter);
    check_child(other);
    check_took(row, length_ns - (course == FLOWING ? NSEC_PER_SEC : 0)); /* the other may be the first */
    int has_ended = scene->result == row->ended;
    if (!has_ended)
        CHECK_ROW(row, scene->result, row->expired);
    /* What the waiter did not take is still there. */
    switch (row->event) {
    case PIPE:
        CHECK_ROW(row, read(pipe_fds[0], &byte, 1), 1);
        if (scene->request[1] == P(&scene->pollfd))
            CHECK_ROW(row, scene->pollfd.revents, has_ended ? POLLIN : 0);
        break;
    case SEMAPHORE:
        CHECK_ROW(row, semctl(semaphore, 0, GETVAL), !has_ended);
        CHECK(semctl(semaphore, 0, SETVAL, 0) == 0);
        break;
    case MESSAGE:
        CHECK_ROW(row, mq_timedreceive(queue, scene->letter, sizeof scene->letter, NULL, &none), has_ended ? -1 : 1);
        break;
    default:
        CHECK_ROW(row, recv(sockets[0], &byte, 1, MSG_DONTWAIT), has_ended ? -1 : 1);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    read_course(argv, 0);
    make_rows();
    for (int i = 0; i < row_count; i++) {
        enum event event = rows[i].event;
        if (event == NOTHING)
            continue;
        end_sooner(&rows[i]);
        wait_without_time(&rows[i]);
        end_at_once(&rows[i]);
        if (event == PIPE || event == SEMAPHORE || event == MESSAGE || event == BYTE)
            end_at_that_moment(&rows[i]);
    }
    remove_rows();
    return success();
}
