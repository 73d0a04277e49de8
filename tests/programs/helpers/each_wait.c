// built: on=static,i386
/* Any wait of waits.h, for as long as its driver says (tests/unit/test_timeouts.py). First it prints its rows. Then each line
 * of its standard input is an order, and is answered by a line:
 *
 *   w ROW NS  a new thread waits so long
 *   e         what ends that wait sooner happens
 *   i         a signal does, which is handled
 *   r         the wait has ended: its result, how long it was, and what was left of it by its own account, or -1 */
#include "../waits.h"

static struct row *row;
static int64_t wanted_ns;
static pthread_t thread;

static void *wait_in_thread(void *unused)
{
    perform(row, wanted_ns);
    return unused;
}

static void on_signal(int number)
{
    (void)number;
}

static int is_interruptible_sleep(void)
{
    return row->event == NOTHING && !row->writes_rest && row->form != MILLISECONDS && row->clock == RELATIVE;
}

int main(int argc, char **argv)
{
    char *words[] = {argv[0], argv[0], argv[0], "frozen", NULL}, line[100];
    struct sigaction action = {.sa_handler = on_signal};
    long long ns;
    int number;
    (void)argc;
    read_course(words, 0);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    make_rows();
    for (int i = 0; i < row_count; i++)
        printf("%d %d %d %d %d %d %ld %ld %s\n", rows[i].form, rows[i].clock, (int)PARTS(&rows[i]), rows[i].writes_rest,
               rows[i].event, rows[i].handled, rows[i].expired, rows[i].ended, rows[i].name);
    puts("");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        switch (line[0]) {
        case 'w':
            CHECK(sscanf(line + 1, "%d %lld", &number, &ns) == 2 && number < row_count);
            row = &rows[number];
            wanted_ns = ns;
            reset(row);
            CHECK(pthread_create(&thread, NULL, wait_in_thread, NULL) == 0);
            break;
        case 'e': end_wait(row, getpid()); break;
        case 'i': CHECK(pthread_kill(thread, SIGUSR1) == 0); break;
        case 'r':
            CHECK(pthread_join(thread, NULL) == 0);
            ns = row->writes_rest ? written_rest_ns(row, timeout) : -1;
            if (is_interruptible_sleep() && scene->result == -EINTR)
                ns = written_rest_ns(row, scene->rest);
            printf("%ld %lld %lld\n", scene->result, (long long)(scene->ended_ns - scene->started_ns), ns);
            fflush(stdout);
            break;
        default: CHECK(!"an order");
        }
    }
    remove_rows();
    return 0;
}
