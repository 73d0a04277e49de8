// built: on=static,i386
/* Prints its effective user and what time it is. */
#include "../check.h"

int main(void)
{
    printf("%d %lld\n", geteuid(), (long long)time(NULL));
    return 7;
}
