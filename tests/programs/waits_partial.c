// run: start=1970-01-01T00:00:00Z monotonic=freeze on=static,dynamic,i386 args=frozen bare-args=bare bare=passes
// run: start=1970-01-01T00:00:00Z on=static,i386 args=flowing bare=never
// run: start=1970-01-01T00:00:00Z autojump=yes on=static,i386 args=jumping bare=never
/* Calls that wait for several things and end with some of them when their time is up. recvmmsg looks
 * at its time only when a datagram comes: see its manual page, BUGS. */
#include "waits.h"

static int datagrams[2];
static struct mmsghdr messages[4];
static struct iovec vectors[4];
static char buffers[4][16];

static void send_one(void)
{
    CHECK(send(datagrams[1], "ab", 2, 0) == 2);
}

/* Calls recvmmsg with a time; the process that does it tells what it wrote back there. */
static pid_t start_receiver(int wanted, int flags, int64_t ns)
{
    reset(&rows[0]);
    for (int i = 0; i < 4; i++)
        messages[i].msg_len = 0;
    pid_t pid = fork();
    if (pid == 0) {
        scene->started_ns = now_ns();
        set_timeout(ns, 1, 0);
        scene->started = 1;
        scene->result =
#ifdef __i386__
            raw(417, /* recvmmsg_time64 */
#else
            raw(SYS_recvmmsg,
#endif
                datagrams[0], P(messages), wanted, flags, P(timeout), 0);
        for (int i = 0; i < 4; i++)
            CHECK_EQUAL(messages[i].msg_len, i < scene->result ? 2 : 0);
        scene->ended_ns = now_ns();
        scene->done = 1;
        _exit(0);
    }
    if (course == BARE) {
        wait_until_set(&scene->started);
        wait_for_state(pid, 'S');
    }
    return pid;
}

static void receive_messages(void)
{
    set_bare_length(5 * NSEC_PER_SEC);
    /* All of them come in time. */
    send_one();
    pid_t pid = start_receiver(2, 0, length_ns);
    elapse(part_ns);
    CHECK(!scene->done);
    send_one();
    check_child(pid);
    CHECK_EQUAL(scene->result, 2);
    CHECK_ELAPSED(scene->ended_ns - scene->started_ns, part_ns);
    CHECK_LEFT(timeout->a * NSEC_PER_SEC + timeout->b, length_ns, part_ns);

    /* The time passes, nothing happens; one more ends the call although it waits for more. */
    int64_t time_ns = course == BARE ? NSEC_PER_SEC / 2 : part_ns; /* a busy machine may be late to send */
    pid = start_receiver(4, 0, time_ns);
    send_one();
    elapse(2 * time_ns);
    CHECK(!scene->done);
    send_one();
    check_child(pid);
    CHECK_EQUAL(scene->result, 2);
    CHECK_ELAPSED(scene->ended_ns - scene->started_ns, 2 * time_ns);
    CHECK_EQUAL(timeout->a, 0);
    CHECK_EQUAL(timeout->b, 0);

    /* It takes what is there, and does not wait for more. */
    send_one();
    send_one();
    pid = start_receiver(4, MSG_WAITFORONE, length_ns);
    check_child(pid);
    CHECK_EQUAL(scene->result, 2);

    /* Refused. */
    pid = start_receiver(4, 0, -NSEC_PER_SEC);
    check_child(pid);
    CHECK_EQUAL(scene->result, -EINVAL);

    /* A timeout of the socket ends it. */
    set_bare_length(30000000);
    struct timeval time = {length_ns / NSEC_PER_SEC, length_ns % NSEC_PER_SEC / 1000};
    CHECK(setsockopt(datagrams[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    pid = start_receiver(4, 0, 3 * length_ns);
    if (is_asked()) {
        elapse(length_ns - 60 * NSEC_PER_SEC);
        CHECK(!scene->done);
        elapse(60 * NSEC_PER_SEC);
    }
    check_child(pid);
    CHECK_EQUAL(scene->result, -EAGAIN);
    CHECK_ELAPSED(scene->ended_ns - scene->started_ns, length_ns);
}

/* One of two events is there already. */
static void *get_events(void *unused)
{
    struct iocb iocb = {.aio_lio_opcode = 5, .aio_fildes = pipe_fds[0], .aio_buf = POLLIN}, *all = &iocb;
    aio_context_t context = 0;
    CHECK(syscall(SYS_io_setup, 4, &context) == 0);
    CHECK(syscall(SYS_io_submit, context, 1, &all) == 1);
    scene->started_ns = now_ns();
    set_timeout(length_ns, 1, sizeof(long) == 4);
    scene->started = 1;
    scene->result = raw(SYS_io_getevents, context, 2, 4, P(scene->events), P(timeout_to_read), 0);
    scene->ended_ns = now_ns();
    scene->done = 1;
    CHECK(syscall(SYS_io_destroy, context) == 0);
    return unused;
}

/* A part of what is to be received whole. */
static void *receive(void *unused)
{
    struct timeval time = {length_ns / NSEC_PER_SEC, length_ns % NSEC_PER_SEC / 1000};
    CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    scene->started_ns = now_ns();
    scene->started = 1;
    scene->result = recv(sockets[0], scene->letter, 8, MSG_WAITALL);
    scene->ended_ns = now_ns();
    scene->done = 1;
    return unused;
}

/* Time that sockets are given to send is heeded while a part has been sent. */
static void *send_much(void *unused)
{
    static char many[1 << 20];
    struct timeval time = {length_ns / NSEC_PER_SEC, length_ns % NSEC_PER_SEC / 1000};
    CHECK(setsockopt(datagrams[0], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) == 0);
    scene->started_ns = now_ns();
    scene->started = 1;
    scene->result = send(datagrams[0], many, sizeof many, MSG_NOSIGNAL) > 0;
    scene->ended_ns = now_ns();
    scene->done = 1;
    return unused;
}

static void wait_for_more(void *(*wait)(void *), int got)
{
    pthread_t thread;
    scene->done = 0;
    CHECK(pthread_create(&thread, NULL, wait, NULL) == 0);
    if (is_asked()) {
        elapse(length_ns - 60 * NSEC_PER_SEC);
        CHECK(!scene->done);
        elapse(60 * NSEC_PER_SEC);
        CHECK(scene->done);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(scene->result, got);
    CHECK_ELAPSED(scene->ended_ns - scene->started_ns, length_ns);
}

int main(int argc, char **argv)
{
    (void)argc;
    read_course(argv, 30000000);
    make_rows();
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
    for (int i = 0; i < 4; i++) {
        vectors[i] = (struct iovec){buffers[i], sizeof buffers[i]};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    receive_messages();
    reset(&rows[0]);
    CHECK(write(pipe_fds[1], "", 1) == 1);
    wait_for_more(get_events, 1);
    reset(&rows[0]);
    CHECK(write(sockets[1], "abc", 3) == 3);
    wait_for_more(receive, 3);
    close(datagrams[0]);
    close(datagrams[1]);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, datagrams) == 0);
    wait_for_more(send_much, 1);
    remove_rows();
    return success();
}
