/* A static program: there is no shared library in it that could be replaced to change the time. */
#include <stdio.h>
#include <time.h>

int main(void)
{
    char text[64];
    time_t now = time(NULL);
    strftime(text, sizeof text, "%a %b %e %H:%M:%S UTC %Y", gmtime(&now));
    printf("static musl: %s\n", text);
    return 0;
}
