/* At each line of its input: what day and time it is, as a 64-bit time_t and as a long of 32 bits,
   and for how many seconds it has run. */
#include <stdio.h>
#include <time.h>

static const char *date(time_t when, char *text)
{
	strftime(text, 64, "%F %T", gmtime(&when));
	return text;
}

static int uptime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

int main(void)
{
	char good[64], bad[64];
	int begin = uptime();

	while (getchar() == '\n') {
		time_t now = time(NULL);
		long kept = now;

		printf("%s or %s, %d s\n", date(now, good), date(kept, bad), uptime() - begin);
		fflush(stdout);
	}
	return 0;
}
