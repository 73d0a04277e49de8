/* The number of the system call by which the loader tells the tracer that it failed; there is none of this
 * number. Not a trap: a program that ignores or blocks SIGTRAP would lose that (force_sig,
 * kernel/signal.c). */
#define LOADER_FAILED 32080
/* By which a program asks for what it cannot see to itself (vdso.c): descriptors of a pread64 from the beginning, which stops
 * where files follow the clock, and which no profile of containers forbids. */
#define STAMPS_LEFT (-32081)
#define OPENED_FILE (-32082)
