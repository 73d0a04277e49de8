/* COUNT threads sleep for an hour; whenever it is asked it says how many have been woken. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int woken;

static void *sleep_for(void *seconds)
{
    struct timespec time = {(long)seconds, 0};
    nanosleep(&time, NULL);
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 1;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, sleep_for, (void *)3600L) != 0)
            return 1;
    }
    puts("up");
    fflush(stdout);
    char line[8];
    while (fgets(line, sizeof line, stdin)) {
        printf("%d\n", __atomic_load_n(&woken, __ATOMIC_SEQ_CST));
        fflush(stdout);
    }
    return 0;
}
