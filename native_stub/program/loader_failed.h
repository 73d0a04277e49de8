/* The number of the system call by which the loader tells the tracer that it failed; there is none of this
 * number. Not a trap: a program that ignores or blocks SIGTRAP would lose that (force_sig,
 * kernel/signal.c). */
#define LOADER_FAILED 32080
#define STAMPS_LEFT (-32081) /* of vdso.c: the descriptor of a pread64, which no container's profile refuses */
