// built: on=arm
/* Says what time it is, by nothing that any architecture lacks. */
#include <stdio.h>
#include <time.h>

int main(void)
{
    printf("%lld\n", (long long)time(NULL));
    return 7;
}
