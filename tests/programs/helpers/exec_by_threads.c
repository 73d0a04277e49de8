// built: on=static,i386
/* It executes itself again and again, by another thread than the first, as often as the argument says; then it says what time
 * it is for each line that it reads. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static char **arguments;

static void *execute(void *unused)
{
    execv("/proc/self/exe", arguments);
    abort();
    return unused;
}

int main(int argc, char **argv)
{
    char left[20], line[80];
    int count = atoi(argv[argc - 1]);
    if (count > 0) {
        snprintf(left, sizeof left, "%d", count - 1);
        arguments = (char *[]){argv[0], left, NULL};
        pthread_t thread;
        if (pthread_create(&thread, NULL, execute, NULL))
            abort();
        for (;;)
            pause();
    }
    while (fgets(line, sizeof line, stdin)) {
        printf("%lld\n", (long long)time(NULL));
        fflush(stdout);
    }
    return 0;
}
