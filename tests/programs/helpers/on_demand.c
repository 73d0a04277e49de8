/* Reads the clock when it is told to, and not before: an answer for each line of its input. */
#include "../check.h"

int main(void)
{
    char line[64];
    while (read(0, line, sizeof line) > 0)
        dprintf(1, line[0] == 'r' ? "%lld\n" : "-\n", line[0] == 'r' ? (long long)time(NULL) : 0);
    return 0;
}
