/* What the tracer says of one kind of program. */
#ifndef VDSOTIME_TAKEOVER_H
#define VDSOTIME_TAKEOVER_H

#include <stdint.h>

#define LARGEST_BLOCK 16384

enum takeover_result { TAKEN_OVER, ANOTHER_KIND, NO_VDSO_FOUND }; /* or a negative errno */

struct takeover_block {
    uint64_t mode;           /* what tells a program of this kind, in its registers */
    uint64_t word_size;      /* of its stack: 4 or 8 */
    uint64_t size;           /* of the block, which is written to the beginning of its vDSO; LARGEST_BLOCK at most */
    uint64_t bytes;          /* its address, as it is for a vDSO at reference_base */
    uint64_t parameters;     /* address of the loader's (loader.h), likewise; without what the program alone tells */
    uint64_t reference_base;
    uint64_t moving;         /* address of the offsets, in the block, of addresses that move with the vDSO: */
    uint64_t moving_words;   /* this many, of word_size */
    uint64_t start;          /* where it is to begin, from the beginning of its vDSO */
};

/* How a program's arguments begin: one behind the other, each with its null byte. */
struct arguments {
    uint64_t size;
    char bytes[128];
};

#define EXECUTED_PATHS 496

/* How a program was executed: the path of the file that the kernel runs, a null byte, and the path that execve(2) was
 * given. */
struct executed {
    uint64_t size;
    char paths[EXECUTED_PATHS];
};

#endif
