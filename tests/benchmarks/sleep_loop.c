/* Sleeps COUNT times for NANOSECONDS. */
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 1, ns = argc > 2 ? atol(argv[2]) : 0;
    struct timespec time = {ns / 1000000000, ns % 1000000000};
    while (count--)
        nanosleep(&time, NULL);
    return 0;
}
