/* Every system call that ends by itself after a time, a row each, in all the forms that programs of
 * this kind can make it. The programs waits_*.c go through all rows. */
#ifndef WAITS_H
#define WAITS_H

#include "elapse.h"
#ifdef __i386__
#include "i386.h"
#else
struct narrow { int32_t sec, nsec; };
#endif
#include <linux/aio_abi.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Calls by the names that they have with 64-bit times. The others are in I386 below. */
#ifdef __i386__
enum {
    PSELECT6 = 413, PPOLL = 414, IO_PGETEVENTS = 416, MQ_TIMEDSEND_ = 418, MQ_TIMEDRECEIVE_ = 419,
    SEMTIMEDOP = 420, RT_SIGTIMEDWAIT = 421, FUTEX_ = FUTEX64, NANOSLEEP_ = CLOCK_NANOSLEEP64
};
/* With 32-bit times. */
enum {
    NARROW_SELECT = 82, SOCKETCALL = 102, IPC = 117, NEWSELECT = 142, NARROW_NANOSLEEP = 162,
    NARROW_SIGTIMEDWAIT = 177, NARROW_GETEVENTS = 247, NARROW_MQ_TIMEDSEND = 279,
    NARROW_PSELECT6 = 308, NARROW_PPOLL = 309, NARROW_PGETEVENTS = 385
};
#else
enum {
    PSELECT6 = SYS_pselect6, PPOLL = SYS_ppoll, IO_PGETEVENTS = SYS_io_pgetevents,
    MQ_TIMEDSEND_ = SYS_mq_timedsend, MQ_TIMEDRECEIVE_ = SYS_mq_timedreceive,
    SEMTIMEDOP = SYS_semtimedop, RT_SIGTIMEDWAIT = SYS_rt_sigtimedwait, FUTEX_ = SYS_futex,
    NANOSLEEP_ = SYS_clock_nanosleep
};
#endif
enum { EPOLL_PWAIT2 = 441, FUTEX_WAITV = 449, FUTEX2_WAIT = 455 };
enum { WAIT = 0, LOCK_PI = 6, UNLOCK_PI = 7, WAIT_BITSET = 9, WAIT_REQUEUE_PI = 11,
       CMP_REQUEUE_PI = 12, LOCK_PI2 = 13, REALTIME = 256 };
enum { RELATIVE = -1 };
enum { RCVTIMEO_OLD = 20, SNDTIMEO_OLD = 21, RCVTIMEO_NEW = 66, SNDTIMEO_NEW = 67 };

/* What the call takes its time from. */
enum form { WIDE, NARROW, MILLISECONDS, TIMEVAL, RECEIVE_TIMEOUT, SEND_TIMEOUT };

/* What ends it sooner. */
enum event { NOTHING, PIPE, WAKE, UNLOCK, REQUEUE, SIGNAL, SEMAPHORE, MESSAGE, ROOM_FOR_MESSAGE,
             COMPLETION, BYTE, ROOM_FOR_BYTE, CONNECTION, ACCEPTANCE };

/* What a signal does to it, which a handler takes, or a stop and SIGCONT. */
enum effect { INTERRUPTS, RESTARTS };

struct row {
    const char *name;
    long number;
    long args[6];
    int at; /* the argument that is the time */
    enum form form;
    int clock; /* of an absolute one, or RELATIVE */
    long expired, ended; /* results */
    enum event event;
    int writes_rest;
    enum effect handled, handled_restarting, stopped;
    int option; /* of setsockopt */
};

struct timeout { int64_t a, b; };

/* What waits are made of, shared by all processes. */
static struct scene {
    volatile int started, done, handled;
    long result, request[7], after[7];
    int64_t started_ns, ended_ns;
    uint32_t word, second_word;
    struct { uint64_t value, address; uint32_t flags, reserved; } waitv;
    struct pollfd pollfd;
    unsigned char set[128];
    struct { const void *set; size_t size; } mask;
    struct { unsigned long number; void *read, *write, *except, *timeout; } select;
    unsigned long socketcall[6];
    struct sembuf take;
    sigset_t signals;
    char letter[16];
    struct sockaddr_un address;
    unsigned char rest[16], events[256], info[128];
} *scene;
static struct timeout *timeout;         /* where programs write it */
static struct timeout *timeout_to_read; /* the same memory, which cannot be written here */

static int epoll_fd, sockets[2], full_sockets[2], listener, full_listener, helper_pipe[2];
static int pipe_fds[2] = {100, 101}; /* beyond the first words of a set */
static mqd_t queue, full_queue;
static int semaphore;
static pid_t helper; /* holds the lock that others want */
static struct row rows[128];
static int row_count;

#define SIZE_OF_SIGSET 8
#define SELECTED 100
#define UNTOUCHED 0xee

/* Makes the call of request[0] with the arguments behind, and says what the registers of the arguments
 * hold after it, behind its result. */
void call_kernel(const long request[7], long after[7]);
#ifdef __i386__
__attribute__((used)) const void *entry_point = int80;
__asm__(".text\n"
        "call_kernel:\n"
        "    pushl %ebp; pushl %ebx; pushl %esi; pushl %edi\n"
        "    movl 20(%esp), %eax\n"
        "    movl 4(%eax), %ebx; movl 8(%eax), %ecx; movl 12(%eax), %edx\n"
        "    movl 16(%eax), %esi; movl 20(%eax), %edi; movl 24(%eax), %ebp\n"
        "    movl (%eax), %eax\n"
        "    call *entry_point\n"
        "    pushl %eax\n"
        "    movl 28(%esp), %eax\n"
        "    movl %ebx, 4(%eax); movl %ecx, 8(%eax); movl %edx, 12(%eax)\n"
        "    movl %esi, 16(%eax); movl %edi, 20(%eax); movl %ebp, 24(%eax)\n"
        "    popl %ecx\n"
        "    movl %ecx, (%eax)\n"
        "    popl %edi; popl %esi; popl %ebx; popl %ebp\n"
        "    ret\n");
#elif defined __aarch64__ /* the first argument's register is that of the result */
__asm__(".text\n"
        "call_kernel:\n"
        "    mov x9, x0; mov x10, x1\n"
        "    ldp x8, x0, [x9]; ldp x1, x2, [x9, #16]; ldp x3, x4, [x9, #32]; ldr x5, [x9, #48]\n"
        "    svc #0\n"
        "    ldr x11, [x9, #8]\n"
        "    stp x0, x11, [x10]; stp x1, x2, [x10, #16]; stp x3, x4, [x10, #32]; str x5, [x10, #48]\n"
        "    ret\n");
#else
__asm__(".text\n"
        "call_kernel:\n"
        "    push %rbx; push %r12\n"
        "    mov %rdi, %rbx; mov %rsi, %r12\n"
        "    mov (%rbx), %rax; mov 8(%rbx), %rdi; mov 16(%rbx), %rsi; mov 24(%rbx), %rdx\n"
        "    mov 32(%rbx), %r10; mov 40(%rbx), %r8; mov 48(%rbx), %r9\n"
        "    syscall\n"
        "    mov %rax, (%r12); mov %rdi, 8(%r12); mov %rsi, 16(%r12); mov %rdx, 24(%r12)\n"
        "    mov %r10, 32(%r12); mov %r8, 40(%r12); mov %r9, 48(%r12)\n"
        "    pop %r12; pop %rbx\n"
        "    ret\n");
#endif

static inline long raw(long number, long a, long b, long c, long d, long e, long f)
{
    long request[] = {number, a, b, c, d, e, f}, after[7];
    call_kernel(request, after);
    CHECK(memcmp(request + 1, after + 1, 6 * sizeof *after) == 0);
    return after[0];
}

/* The row of a call, its time as argument `at` (from 0). What it lacks can be put in after. */
#define ADD(name_, form_, clock_, at_, expired_, event_, ended_, number_, ...) \
    add((struct row){.name = name_, .number = number_, .args = {__VA_ARGS__}, .at = at_, .form = form_, \
                     .clock = clock_, .expired = expired_, .event = event_, .ended = ended_})

static inline struct row *add(struct row row)
{
    CHECK(row_count < 128);
    row.stopped = RESTARTS;
    rows[row_count] = row;
    return &rows[row_count++];
}

/* Effects other than the usual ones: a handler interrupts, a stop does not. */
static inline void stops_interrupt(struct row *row)
{
    row->stopped = INTERRUPTS;
}

/* Where SA_RESTART is heeded. */
static inline void restarts(struct row *row)
{
    row->handled_restarting = RESTARTS;
}

static inline void always_restarts(struct row *row)
{
    row->handled = row->handled_restarting = RESTARTS;
}

static inline void writes_rest(struct row *row)
{
    row->writes_rest = 1;
}

#define P(x) ((long)(x))

static inline void add_sleeps(void)
{
    static const struct { const char *name; int id; } clocks[] = {
        {"CLOCK_REALTIME", CLOCK_REALTIME}, {"CLOCK_MONOTONIC", CLOCK_MONOTONIC},
        {"CLOCK_BOOTTIME", CLOCK_BOOTTIME}, {"CLOCK_TAI", 11}};
    for (int i = 0; i < 4; i++) {
        ADD(clocks[i].name, WIDE, RELATIVE, 2, 0, NOTHING, 0, NANOSLEEP_, clocks[i].id, 0, 0, P(scene->rest));
        ADD(clocks[i].name, WIDE, clocks[i].id, 2, 0, NOTHING, 0, NANOSLEEP_, clocks[i].id, TIMER_ABSTIME, 0,
            P(scene->rest));
    }
#ifdef __i386__
    ADD("nanosleep", NARROW, RELATIVE, 0, 0, NOTHING, 0, NARROW_NANOSLEEP, 0, P(scene->rest));
    for (int id = CLOCK_REALTIME; id <= CLOCK_MONOTONIC; id++) {
        ADD("clock_nanosleep", NARROW, RELATIVE, 2, 0, NOTHING, 0, CLOCK_NANOSLEEP, id, 0, 0, P(scene->rest));
        ADD("clock_nanosleep, absolute", NARROW, id, 2, 0, NOTHING, 0, CLOCK_NANOSLEEP, id, TIMER_ABSTIME, 0,
            P(scene->rest));
    }
#else
    ADD("nanosleep", WIDE, RELATIVE, 0, 0, NOTHING, 0, SYS_nanosleep, 0, P(scene->rest));
#endif
}

static inline void add_polls(void)
{
    long fd = P(&scene->pollfd), set = P(scene->set), mask = P(&scene->mask), none = SIZE_OF_SIGSET;
#ifdef SYS_poll /* older calls, which 64-bit Arm has not */
    ADD("poll", MILLISECONDS, RELATIVE, 2, 0, PIPE, 1, SYS_poll, fd, 1);
    ADD("poll of nothing", MILLISECONDS, RELATIVE, 2, 0, NOTHING, 0, SYS_poll, 0, 0);
#endif
    writes_rest(ADD("ppoll", WIDE, RELATIVE, 2, 0, PIPE, 1, PPOLL, fd, 1, 0, 0, none));
    writes_rest(ADD("pselect6", WIDE, RELATIVE, 4, 0, PIPE, 1, PSELECT6, SELECTED + 1, set, 0, 0, 0, mask));
    writes_rest(ADD("pselect6 of nothing", WIDE, RELATIVE, 4, 0, NOTHING, 0, PSELECT6, 0, 0, 0, 0, 0, 0));
    /* What cannot be written is not: the kernel lets it be, but cannot make the call again then. */
    stops_interrupt(ADD("ppoll, read-only", WIDE, RELATIVE, 2, 0, PIPE, 1, PPOLL, fd, 1, 0, 0, none));
    stops_interrupt(ADD("pselect6, read-only", WIDE, RELATIVE, 4, 0, PIPE, 1, PSELECT6, SELECTED + 1, set));
#ifdef __i386__
    writes_rest(ADD("ppoll", NARROW, RELATIVE, 2, 0, PIPE, 1, NARROW_PPOLL, fd, 1, 0, 0, none));
    writes_rest(ADD("pselect6", NARROW, RELATIVE, 4, 0, PIPE, 1, NARROW_PSELECT6, SELECTED + 1, set, 0, 0, 0, mask));
    writes_rest(ADD("_newselect", TIMEVAL, RELATIVE, 4, 0, PIPE, 1, NEWSELECT, SELECTED + 1, set));
    /* select takes its arguments in memory. */
    writes_rest(ADD("select", TIMEVAL, RELATIVE, -1, 0, PIPE, 1, NARROW_SELECT, P(&scene->select)));
#elif defined SYS_select
    writes_rest(ADD("select", TIMEVAL, RELATIVE, 4, 0, PIPE, 1, SYS_select, SELECTED + 1, set));
    writes_rest(ADD("select of nothing", TIMEVAL, RELATIVE, 4, 0, NOTHING, 0, SYS_select, 0));
#endif
    long events = P(scene->events);
#ifdef SYS_epoll_wait
    stops_interrupt(ADD("epoll_wait", MILLISECONDS, RELATIVE, 3, 0, PIPE, 1, SYS_epoll_wait, epoll_fd, events, 4));
#endif
    stops_interrupt(ADD("epoll_pwait", MILLISECONDS, RELATIVE, 3, 0, PIPE, 1, SYS_epoll_pwait, epoll_fd, events, 4, 0,
                        0, none));
    stops_interrupt(ADD("epoll_pwait2", WIDE, RELATIVE, 3, 0, PIPE, 1, EPOLL_PWAIT2, epoll_fd, events, 4, 0, 0, none));
}

static inline void add_futexes(long number, enum form form)
{
    long word = P(&scene->word), second = P(&scene->second_word);
    ADD("FUTEX_WAIT", form, RELATIVE, 3, -ETIMEDOUT, WAKE, 0, number, word, WAIT, 0);
    ADD("FUTEX_WAIT_BITSET", form, CLOCK_MONOTONIC, 3, -ETIMEDOUT, WAKE, 0, number, word, WAIT_BITSET, 0, 0, 0, -1);
    ADD("FUTEX_WAIT_BITSET, real", form, CLOCK_REALTIME, 3, -ETIMEDOUT, WAKE, 0, number, word, WAIT_BITSET | REALTIME,
        0, 0, 0, -1);
    always_restarts(ADD("FUTEX_LOCK_PI", form, CLOCK_REALTIME, 3, -ETIMEDOUT, UNLOCK, 0, number, word, LOCK_PI, 0));
    always_restarts(ADD("FUTEX_LOCK_PI2", form, CLOCK_MONOTONIC, 3, -ETIMEDOUT, UNLOCK, 0, number, word, LOCK_PI2, 0));
    always_restarts(ADD("FUTEX_LOCK_PI2, real", form, CLOCK_REALTIME, 3, -ETIMEDOUT, UNLOCK, 0, number, word,
                        LOCK_PI2 | REALTIME, 0));
    always_restarts(ADD("FUTEX_WAIT_REQUEUE_PI", form, CLOCK_MONOTONIC, 3, -ETIMEDOUT, REQUEUE, 0, number, word,
                        WAIT_REQUEUE_PI, 0, 0, second));
    always_restarts(ADD("FUTEX_WAIT_REQUEUE_PI, real", form, CLOCK_REALTIME, 3, -ETIMEDOUT, REQUEUE, 0, number, word,
                        WAIT_REQUEUE_PI | REALTIME, 0, 0, second));
}

static inline void add_newer_futexes(void)
{
    long word = P(&scene->word);
    for (int id = CLOCK_REALTIME; id <= CLOCK_MONOTONIC; id++) {
        restarts(ADD("futex_waitv", WIDE, id, 3, -ETIMEDOUT, WAKE, 0, FUTEX_WAITV, P(&scene->waitv), 1, 0, 0, id));
        if (raw(FUTEX2_WAIT, 0, 0, 0, 0, 0, 0) != -ENOSYS) /* since Linux 6.7 */
            restarts(ADD("futex_wait", WIDE, id, 4, -ETIMEDOUT, WAKE, 0, FUTEX2_WAIT, word, 0, 0xffffffff, 2, 0, id));
    }
}

static inline void add_messages(void)
{
    long letter = P(scene->letter), size = sizeof scene->letter, set = P(&scene->signals), info = P(scene->info);
    long take = P(&scene->take), events = P(scene->events);
    stops_interrupt(ADD("rt_sigtimedwait", WIDE, RELATIVE, 2, -EAGAIN, SIGNAL, SIGUSR2, RT_SIGTIMEDWAIT, set, info, 0,
                        SIZE_OF_SIGSET));
    stops_interrupt(ADD("semtimedop", WIDE, RELATIVE, 3, -EAGAIN, SEMAPHORE, 0, SEMTIMEDOP, semaphore, take, 1));
    restarts(ADD("mq_timedreceive", WIDE, CLOCK_REALTIME, 4, -ETIMEDOUT, MESSAGE, 1, MQ_TIMEDRECEIVE_, queue, letter,
                 size));
    restarts(ADD("mq_timedsend", WIDE, CLOCK_REALTIME, 4, -ETIMEDOUT, ROOM_FOR_MESSAGE, 0, MQ_TIMEDSEND_, full_queue,
                 letter, 1));
    /* The context, which no two processes share, is the waiter's own: see perform(). */
    ADD("io_pgetevents", WIDE, RELATIVE, 4, 0, COMPLETION, 1, IO_PGETEVENTS, 0, 1, 4, events);
#ifdef __i386__
    stops_interrupt(ADD("rt_sigtimedwait", NARROW, RELATIVE, 2, -EAGAIN, SIGNAL, SIGUSR2, NARROW_SIGTIMEDWAIT, set,
                        info, 0, SIZE_OF_SIGSET));
    stops_interrupt(ADD("ipc", NARROW, RELATIVE, 5, -EAGAIN, SEMAPHORE, 0, IPC, 4, semaphore, 1, 0, take));
    restarts(ADD("mq_timedreceive", NARROW, CLOCK_REALTIME, 4, -ETIMEDOUT, MESSAGE, 1, MQ_TIMEDRECEIVE, queue, letter,
                 size));
    restarts(ADD("mq_timedsend", NARROW, CLOCK_REALTIME, 4, -ETIMEDOUT, ROOM_FOR_MESSAGE, 0, NARROW_MQ_TIMEDSEND,
                 full_queue, letter, 1));
    stops_interrupt(ADD("io_getevents", NARROW, RELATIVE, 4, 0, COMPLETION, 1, NARROW_GETEVENTS, 0, 1, 4, events));
    ADD("io_pgetevents", NARROW, RELATIVE, 4, 0, COMPLETION, 1, NARROW_PGETEVENTS, 0, 1, 4, events);
#else
    stops_interrupt(ADD("io_getevents", WIDE, RELATIVE, 4, 0, COMPLETION, 1, SYS_io_getevents, 0, 1, 4, events));
#endif
}

/* Calls on sockets that have a timeout of their own. */
static inline void on_socket(struct row *row, int option)
{
    row->option = option;
    row->stopped = INTERRUPTS;
}

static inline void add_sockets(int receive, int send)
{
    long letter = P(scene->letter), address = P(&scene->address);
    on_socket(ADD("recvfrom", RECEIVE_TIMEOUT, RELATIVE, -1, -EAGAIN, BYTE, 1, SYS_recvfrom, sockets[0], letter, 4),
              receive);
    on_socket(ADD("read", RECEIVE_TIMEOUT, RELATIVE, -1, -EAGAIN, BYTE, 1, SYS_read, sockets[0], letter, 4), receive);
    on_socket(ADD("accept4", RECEIVE_TIMEOUT, RELATIVE, -1, -EAGAIN, CONNECTION, -1, SYS_accept4, listener), receive);
    on_socket(ADD("sendto", SEND_TIMEOUT, RELATIVE, -1, -EAGAIN, ROOM_FOR_BYTE, 1, SYS_sendto, full_sockets[0], letter,
                  1, MSG_NOSIGNAL),
              send);
    on_socket(ADD("write", SEND_TIMEOUT, RELATIVE, -1, -EAGAIN, ROOM_FOR_BYTE, 1, SYS_write, full_sockets[0], letter,
                  1),
              send);
    on_socket(ADD("connect", SEND_TIMEOUT, RELATIVE, -1, -EAGAIN, ACCEPTANCE, 0, SYS_connect, -1, address,
                  sizeof scene->address),
              send);
#ifdef __i386__
    on_socket(ADD("socketcall", RECEIVE_TIMEOUT, RELATIVE, -1, -EAGAIN, BYTE, 1, SOCKETCALL, 10 /* SYS_RECV */,
                  P(scene->socketcall)),
              receive);
#endif
}

static inline void fill(int fd)
{
    static char many[4096];
    while (send(fd, many, sizeof many, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
    while (send(fd, many, 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
    CHECK(errno == EAGAIN);
}

static inline void drain(int fd)
{
    static char many[65536];
    while (recv(fd, many, sizeof many, MSG_DONTWAIT) > 0)
        ;
    CHECK(errno == EAGAIN);
}

static inline int listen_at(struct sockaddr_un *address, char kind)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path + 1, 40, "vdsotime-%c-%d", kind, getpid());
    CHECK(fd >= 0 && bind(fd, (void *)address, sizeof *address) == 0 && listen(fd, 0) == 0);
    return fd;
}

static inline void connect_to(int listening)
{
    struct sockaddr_un address;
    socklen_t size = sizeof address;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(fd >= 0 && getsockname(listening, (void *)&address, &size) == 0);
    CHECK(connect(fd, (void *)&address, size) == 0);
    close(fd);
}

static inline mqd_t open_queue(char kind)
{
    char name[40];
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = sizeof scene->letter};
    snprintf(name, sizeof name, "/vdsotime-%c-%d", kind, getpid());
    mqd_t fd = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
    CHECK(fd != (mqd_t)-1 && mq_unlink(name) == 0);
    return fd;
}

/* Lets go of the lock at a byte. */
static inline void start_helper(void)
{
    char byte;
    CHECK(pipe(helper_pipe) == 0);
    helper = fork();
    CHECK(helper >= 0);
    if (helper != 0) {
        close(helper_pipe[0]);
        return;
    }
    close(helper_pipe[1]);
    while (read(helper_pipe[0], &byte, 1) == 1)
        CHECK_EQUAL(raw(FUTEX_, P(&scene->word), UNLOCK_PI, 0, 0, 0, 0), 0);
    CHECK(semctl(semaphore, 0, IPC_RMID) == 0); /* which nobody else would do after a failed check */
    _exit(0);
}

static inline void make_rows(void)
{
    int fds[2], view = memfd_create("timeout", MFD_CLOEXEC);
    CHECK(view >= 0 && ftruncate(view, 4096) == 0);
    timeout = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, view, 0);
    timeout_to_read = mmap(NULL, 4096, PROT_READ, MAP_SHARED, view, 0);
    CHECK(timeout != MAP_FAILED && timeout_to_read != MAP_FAILED);
    close(view);
    scene = shared_memory(sizeof *scene);
    CHECK(pipe(fds) == 0 && dup2(fds[0], pipe_fds[0]) >= 0 && dup2(fds[1], pipe_fds[1]) >= 0);
    close(fds[0]);
    close(fds[1]);
    CHECK(fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK) == 0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_fd = epoll_create1(0);
    CHECK(epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, full_sockets) == 0);
    fill(full_sockets[0]);
    listener = listen_at(&scene->address, 'a');
    full_listener = listen_at(&scene->address, 'b');
    connect_to(full_listener); /* a backlog of 0 has room for one */
    queue = open_queue('a');
    full_queue = open_queue('b');
    CHECK(mq_send(full_queue, "", 1, 0) == 0);
    semaphore = semget(IPC_PRIVATE, 1, 0600);
    CHECK(semaphore >= 0);
    start_helper();

    scene->take = (struct sembuf){0, -1, 0};
    sigemptyset(&scene->signals);
    sigaddset(&scene->signals, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &scene->signals, NULL) == 0);
    scene->mask.size = SIZE_OF_SIGSET;
    scene->waitv.address = (uintptr_t)&scene->word;
    scene->waitv.flags = 2; /* 32 bits */
    add_sleeps();
    add_polls();
    add_futexes(FUTEX_, WIDE);
    add_newer_futexes();
    add_messages();
#ifdef __i386__
    add_futexes(FUTEX, NARROW);
    add_sockets(RCVTIMEO_NEW, SNDTIMEO_NEW);
#endif
    add_sockets(RCVTIMEO_OLD, SNDTIMEO_OLD);
}

static inline void remove_rows(void)
{
    close(helper_pipe[1]);
    check_child(helper);
}

/* Everything as it is before a wait. */
static inline void reset(const struct row *row)
{
    char bytes[16];
    struct timespec none = {0, 0};
    while (read(pipe_fds[0], bytes, sizeof bytes) > 0)
        ;
    while (sigtimedwait(&scene->signals, NULL, &none) > 0)
        ;
    drain(sockets[0]);
    fill(full_sockets[0]);
    scene->started = scene->done = scene->handled = 0;
    scene->word = row->event == UNLOCK ? (uint32_t)helper : 0;
    scene->second_word = 0;
    scene->pollfd = (struct pollfd){.fd = pipe_fds[0], .events = POLLIN, .revents = 0x5555};
    memset(scene->set, 0, sizeof scene->set);
    scene->set[SELECTED / 8] = 1 << SELECTED % 8;
    memset(scene->rest, UNTOUCHED, sizeof scene->rest);
    memset(scene->events, UNTOUCHED, sizeof scene->events);
    memset(scene->info, UNTOUCHED, sizeof scene->info);
    memset(timeout, UNTOUCHED, sizeof *timeout);
}

static inline void set_timeout(int64_t ns, int64_t part_per_ns, int is_narrow)
{
    if (is_narrow) {
        ((struct narrow *)timeout)->sec = ns / NSEC_PER_SEC;
        ((struct narrow *)timeout)->nsec = ns % NSEC_PER_SEC / part_per_ns;
    } else {
        timeout->a = ns / NSEC_PER_SEC;
        timeout->b = ns % NSEC_PER_SEC / part_per_ns;
#ifdef __i386__
        if (part_per_ns == 1)
            timeout->b |= 0x7eadbeefLL << 32; /* padding */
#endif
    }
}

#define PARTS(row) ((row)->form == WIDE || (row)->form == NARROW ? 1 : 1000)
#ifdef __i386__
#define IS_NARROW(row) ((row)->form == NARROW || (row)->form == TIMEVAL || (row)->option == RCVTIMEO_OLD || \
                        (row)->option == SNDTIMEO_OLD)
#else
#define IS_NARROW(row) ((void)(row), 0)
#endif

static inline int64_t written_rest_ns(const struct row *row, const void *at)
{
    const struct narrow *narrow = at;
    const struct timeout *wide = at;
    if (IS_NARROW(row))
        return narrow->sec * NSEC_PER_SEC + (int64_t)narrow->nsec * PARTS(row);
    return wide->a * NSEC_PER_SEC + wide->b * PARTS(row);
}

/* Puts into the request what is to last `ns`; 0 is a time too, -1 none. */
static inline void fill_request(const struct row *row, int64_t ns, int64_t from_ns)
{
    long given = P(row->writes_rest ? timeout : timeout_to_read);
    scene->request[0] = row->number;
    memcpy(scene->request + 1, row->args, sizeof row->args);
    if (ns >= 0)
        set_timeout(ns + (row->clock == RELATIVE ? 0 : from_ns), PARTS(row), IS_NARROW(row));
    else
        given = 0;
    if (row->form == MILLISECONDS)
        scene->request[1 + row->at] = ns < 0 ? -1 : ns / 1000000;
    else if (row->at >= 0)
        scene->request[1 + row->at] = given;
    scene->select.number = SELECTED + 1;
    scene->select.read = scene->set;
    scene->select.timeout = (void *)given;
    unsigned long receive[] = {sockets[0], P(scene->letter), 4, 0};
    memcpy(scene->socketcall, receive, sizeof receive);
    if (row->option && row->event == ACCEPTANCE)
        CHECK((scene->request[1] = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
    if (row->option) {
        int fd = row->number == scene->request[0] && row->event == BYTE ? sockets[0] : scene->request[1];
        struct timeout none = {0, 0};
        CHECK(raw(SYS_setsockopt, fd, SOL_SOCKET, row->option, P(ns < 0 ? &none : timeout),
                  IS_NARROW(row) || sizeof(long) == 8 ? 2 * sizeof(long) : sizeof none, 0) == 0);
    }
    if (row->event == COMPLETION) { /* of a poll of the pipe */
        struct iocb poll = {.aio_lio_opcode = 5, .aio_fildes = pipe_fds[0], .aio_buf = POLLIN}, *all = &poll;
        aio_context_t context = 0;
        CHECK(syscall(SYS_io_setup, 4, &context) == 0);
        CHECK(syscall(SYS_io_submit, context, 1, &all) == 1);
        scene->request[1] = context;
    }
}

/* Makes the call that lasts `ns`, in the process that shall wait. */
static inline void perform(const struct row *row, int64_t ns)
{
    int64_t from_ns = row->clock == RELATIVE ? 0 : clock_ns(row->clock);
    scene->started_ns = now_ns();
    if (row->clock != RELATIVE && course != FROZEN && course != JUMPING)
        from_ns = clock_ns(row->clock); /* not before that */
    fill_request(row, ns, from_ns);
    scene->started = 1;
    call_kernel(scene->request, scene->after);
    scene->ended_ns = now_ns();
    scene->result = scene->after[0];
    scene->done = 1;
    if (row->event == COMPLETION)
        CHECK(syscall(SYS_io_destroy, scene->request[1]) == 0);
    if (row->event == ACCEPTANCE)
        close(scene->request[1]);
    if (row->event == CONNECTION && scene->result >= 0)
        close(scene->result);
}

/* Makes what ends the wait happen; the waiter is the process `pid`. */
static inline void end_wait(const struct row *row, pid_t pid)
{
    struct sembuf give = {0, 1, 0};
    char letter[16];
    switch (row->event) {
    case NOTHING: break;
    case PIPE:
    case COMPLETION: CHECK(write(pipe_fds[1], "", 1) == 1); break;
    case WAKE: CHECK_EQUAL(raw(FUTEX_, P(&scene->word), 1, 9, 0, 0, 0), 1); break;
    case UNLOCK: CHECK(write(helper_pipe[1], "", 1) == 1); break;
    case REQUEUE:
        CHECK_EQUAL(raw(FUTEX_, P(&scene->word), CMP_REQUEUE_PI, 1, 0, P(&scene->second_word), 0), 1);
        break;
    case SIGNAL: CHECK(kill(pid, SIGUSR2) == 0); break;
    case SEMAPHORE: CHECK(semop(semaphore, &give, 1) == 0); break;
    case MESSAGE: CHECK(mq_send(queue, "", 1, 0) == 0); break;
    case ROOM_FOR_MESSAGE: CHECK(mq_receive(full_queue, letter, sizeof letter, NULL) == 1); break;
    case BYTE: CHECK(write(sockets[1], "", 1) == 1); break;
    case ROOM_FOR_BYTE: drain(full_sockets[1]); break;
    case CONNECTION: connect_to(listener); break;
    case ACCEPTANCE: CHECK(close(accept(full_listener, NULL, NULL)) == 0); break;
    }
}

/* Says which row a check of its is about. */
#define CHECK_ROW(row, actual, expected)                                                           \
    do {                                                                                           \
        long long actual_ = (actual), expected_ = (expected);                                      \
        if (actual_ != expected_) {                                                                \
            dprintf(2, "%s:%d: %s (system call %ld, row %d): %s is %lld, not %lld\n", __FILE__, __LINE__, \
                    (row)->name, (row)->number, (int)((row)-rows), #actual, actual_, expected_);    \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* It has not ended yet; on a busy machine it may, but not before its time. */
static inline void check_waits(const struct row *row)
{
    if (scene->done && course == BARE)
        CHECK_ELAPSED(scene->ended_ns - scene->started_ns, length_ns);
    else
        CHECK_ROW(row, scene->done, 0);
}

static inline void check_took(const struct row *row, int64_t expected_ns)
{
    int64_t elapsed_ns = scene->ended_ns - scene->started_ns;
    if (elapsed_ns < expected_ns - 1000000)
        CHECK_ROW(row, elapsed_ns, expected_ns);
    CHECK_ELAPSED(elapsed_ns, expected_ns);
}

static inline void check_filled(const struct row *row, const unsigned char *bytes, int size, int value)
{
    for (int i = 0; i < size; i++)
        CHECK_ROW(row, bytes[i], value);
}

/* The call changed no register of its arguments, nor the time that it was given to read. */
static inline void check_arguments(const struct row *row)
{
    for (int i = 1; i < 7; i++)
        CHECK_ROW(row, scene->after[i] - scene->request[i], 0);
    CHECK_ROW(row, scene->take.sem_op, -1);
    CHECK_ROW(row, scene->mask.size, SIZE_OF_SIGSET);
    CHECK_ROW(row, scene->waitv.flags, 2);
}

static inline void check_left(const struct row *row, int64_t left_ns, int64_t elapsed_ns)
{
    if (length_ns - left_ns < elapsed_ns)
        CHECK_ROW(row, left_ns, length_ns - elapsed_ns);
    CHECK_LEFT(left_ns, length_ns, elapsed_ns);
}

/* What was left of a wait of length_ns that was interrupted, or ended, is told where it should be. */
static inline void check_rest(const struct row *row, int64_t elapsed_ns, int is_interrupted)
{
    int is_sleep = row->event == NOTHING && !row->writes_rest && row->form != MILLISECONDS;
    if (row->writes_rest)
        check_left(row, written_rest_ns(row, timeout), elapsed_ns);
    if (is_sleep && row->clock == RELATIVE && is_interrupted)
        check_left(row, written_rest_ns(row, scene->rest), elapsed_ns);
    else
        check_filled(row, scene->rest, sizeof scene->rest, UNTOUCHED);
}

/* The wait of a row ended because its time was up. */
static inline void check_expired(const struct row *row)
{
    CHECK_ROW(row, scene->done, 1);
    CHECK_ROW(row, scene->result, row->expired);
    check_arguments(row);
    if (row->writes_rest)
        CHECK_ROW(row, written_rest_ns(row, timeout), 0);
    check_filled(row, scene->rest, sizeof scene->rest, UNTOUCHED);
    check_filled(row, scene->events, sizeof scene->events, UNTOUCHED);
    check_filled(row, scene->info, sizeof scene->info, UNTOUCHED);
    if (row->event == PIPE && (scene->request[1] == P(&scene->pollfd)))
        CHECK_ROW(row, scene->pollfd.revents, 0);
    if (row->event == PIPE && (scene->request[2] == P(scene->set) || row->at == -1))
        check_filled(row, scene->set, sizeof scene->set, 0);
}

#endif
