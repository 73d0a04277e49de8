/* What runs in the tracer's own process: a shared object that needs no library. */
#ifndef VDSOTIME_TRACER_H
#define VDSOTIME_TRACER_H

#if defined(__x86_64__)
#include "arch/x86_64.h"
#elif defined(__aarch64__)
#include "arch/aarch64.h"
#else
#error "no tracer for this architecture yet"
#endif

#define AT_FDCWD (-100) /* linux/fcntl.h */
#define O_CLOEXEC 02000000 /* asm-generic/fcntl.h */
#define PROCESS_PATH 40

static inline char *put_text(char *to, const char *text)
{
    while (*text)
        *to++ = *text++;
    return to;
}

static inline char *put_number(char *to, uint64_t number)
{
    char digits[20];
    int count = 0;
    do
        digits[count++] = '0' + number % 10;
    while (number /= 10);
    while (count)
        *to++ = digits[--count];
    return to;
}

/* "/proc/PID/..." */
static inline void process_path(char *path, uint64_t pid, const char *end)
{
    path = put_number(put_text(path, "/proc/"), pid);
    *put_text(path, end) = 0;
}

/* A number as a program has it in memory. What does not fit is cut. */
static inline uint64_t word_at(const unsigned char *bytes, uint64_t size)
{
    uint64_t word = 0;
    for (uint64_t i = 0; i < size; i++)
        word |= (uint64_t)bytes[i] << 8 * i;
    return word;
}

static inline void put_word(unsigned char *bytes, uint64_t word, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = word >> 8 * i;
}

/* struct ptrace_syscall_info (linux/ptrace.h) */
struct syscall_info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t instruction_pointer, stack_pointer, nr, args[6], rest;
};

struct timespec { int64_t sec, nsec; };
struct span { void *address; uint64_t size; }; /* struct iovec (process_vm_readv(2)) */

struct takeover_block;
struct arguments;
struct executed;
long read_executed(long tid, const struct takeover_block *block, struct executed *executed, struct arguments *arguments);
long take_over(long tid, long pid, const struct takeover_block *block, uint64_t *base, struct arguments *arguments);

#endif
