/* The tracer's part of a takeover at exec, in the tracer's own process: a shared object, called once for
 * each exec (kernel/takeover.py). In Python it is the better part of what a start costs.
 *
 * Requires: the task is at its exec event.
 * Leaves: it stopped there. When it was taken over, the loader stands behind its vDSO, whose symbols lead to
 * the fake one, its parameters below the stack, and the program counter at the loader; else nothing is changed
 * that the program uses.
 */
#include "takeover.h"

#include "program/loader.h"
#include "tracer.h"

/* asm-generic/fcntl.h, linux/auxvec.h */
#define O_RDWR 2
#define AT_NULL 0
#define AT_EXECFN 31
#define AT_SYSINFO_EHDR 33
#define EIO 5

#define MOST_ARGUMENTS (64 << 20) /* more than the kernel lets a program have (MAX_ARG_STRINGS, linux/binfmts.h, and its stack) */

/* A program's stack, read piece by piece: its vectors may be megabytes. */
struct stack {
    long memory;
    uint64_t word_size, start, end;
    unsigned char piece[4096];
};

static int has_read(const struct stack *stack, uint64_t address)
{
    return address >= stack->start && address < stack->end && stack->end - address >= stack->word_size;
}

/* 0 where the stack ends. What stands there may be anything: other programs may write it meanwhile. */
static uint64_t read_word(struct stack *stack, uint64_t address)
{
    if (!has_read(stack, address)) {
        long size = syscall4(NR_pread64, stack->memory, stack->piece, sizeof stack->piece, address);
        stack->start = address;
        stack->end = address + (size > 0 ? size : 0);
        if (!has_read(stack, address))
            return 0;
    }
    return word_at(stack->piece + (address - stack->start), stack->word_size);
}

/* The stack holds argc, argv, NULL, envp, NULL, auxv (System V ABI, 3.4.1). Returns the address of the
 * value of an entry of auxv, 0 if there is none. */
static uint64_t find_entry(struct stack *stack, uint64_t address, uint64_t wanted)
{
    uint64_t size = stack->word_size, count = read_word(stack, address), key;
    if (count > MOST_ARGUMENTS)
        return 0;
    address += size * (2 + count);
    while (read_word(stack, address))
        address += size;
    for (address += size; (key = read_word(stack, address)) != AT_NULL; address += 2 * size)
        if (key == wanted)
            return address + size;
    return 0;
}

static long write_all(long memory, const void *bytes, uint64_t size, uint64_t address)
{
    long written = syscall4(NR_pwrite64, memory, bytes, size, address);
    return written < 0 ? written : written == (long)size ? 0 : -EIO;
}

static long write_parameters(long memory, const struct takeover_block *block, uint64_t base, uint64_t slot,
                             const struct registers *registers)
{
    struct loader_parameters parameters = *(const struct loader_parameters *)block->parameters;
    uint64_t way = base - block->reference_base;
    uint64_t *functions = &parameters.process.clock_gettime, *end = parameters.process.mark;

    parameters.entry = registers->PROGRAM_COUNTER;
    parameters.sysinfo_ehdr = slot;
    parameters.address += way;
    parameters.process.stamps += parameters.process.stamps ? way : 0;
    for (; functions < end; functions++)
        *functions += *functions ? way : 0;
    return write_all(memory, &parameters, sizeof parameters, registers->STACK_POINTER - PARAMETERS_BELOW_STACK);
}

static long write_block(long memory, const struct takeover_block *block, uint64_t base)
{
    uint64_t copy[LARGEST_BLOCK / 8];
    unsigned char *bytes = (unsigned char *)copy;
    const uint64_t *from = (const uint64_t *)block->bytes;
    const uint32_t *moving = (const uint32_t *)block->moving;
    uint64_t way = base - block->reference_base;

    for (uint64_t i = 0; i < (block->size + 7) / 8; i++)
        copy[i] = from[i];
    for (uint64_t i = 0; i < block->moving_words; i++)
        put_word(bytes + moving[i], word_at(bytes + moving[i], block->word_size) + way, block->word_size);
    return write_all(memory, bytes, block->size, base);
}

/* For messages: the program may have ended by the time of one. The strings stand one behind the other. */
static void read_arguments(struct stack *stack, uint64_t address, struct arguments *arguments)
{
    uint64_t count = read_word(stack, address), first = read_word(stack, address + stack->word_size);
    arguments->size = 0;
    if (!count)
        return;
    long size = syscall4(NR_pread64, stack->memory, arguments->bytes, sizeof arguments->bytes, first);
    while ((long)arguments->size < size && count)
        count -= !arguments->bytes[arguments->size++];
}

/* Opens a program's memory. Returns 0, ANOTHER_KIND where it is not of this block's, or a negative errno. */
static long open_stack(struct stack *stack, long tid, long pid, const struct takeover_block *block,
                       struct registers *registers)
{
    char path[PROCESS_PATH];
    long result = get_registers(tid, registers);
    if (result < 0)
        return result;
    if (MODE(*registers) != block->mode)
        return ANOTHER_KIND;
    stack->word_size = block->word_size;
    stack->start = stack->end = 0;
    process_path(path, pid, "/mem");
    stack->memory = syscall4(NR_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    return stack->memory < 0 ? stack->memory : 0;
}

static uint64_t length_of(const char *text, uint64_t most)
{
    uint64_t length = 0;
    while (length < most && text[length])
        length++;
    return length;
}

/* Requires: the task is at its exec event. Returns 0 with both, ANOTHER_KIND, or a negative errno, also where the paths
 * are too long. */
long read_executed(long tid, const struct takeover_block *block, struct executed *executed, struct arguments *arguments)
{
    struct stack stack;
    struct registers registers;
    char path[PROCESS_PATH];

    long result = open_stack(&stack, tid, tid, block, &registers);
    if (result)
        return result;
    process_path(path, tid, "/exe");
    long first = syscall4(NR_readlinkat, AT_FDCWD, path, executed->paths, EXECUTED_PATHS / 2), second = -EIO;
    uint64_t entry = find_entry(&stack, registers.STACK_POINTER, AT_EXECFN);
    if (first > 0 && first < EXECUTED_PATHS / 2 && entry) {
        char *name = executed->paths + first + 1;
        name[-1] = 0;
        second = syscall4(NR_pread64, stack.memory, name, EXECUTED_PATHS / 2, read_word(&stack, entry));
        uint64_t length = second > 0 ? length_of(name, second) : 0;
        second = length && length < EXECUTED_PATHS / 2 ? 0 : -EIO;
        executed->size = first + 1 + length;
        read_arguments(&stack, registers.STACK_POINTER, arguments);
    }
    syscall1(NR_close, stack.memory);
    return second;
}

/* `arguments` may be NULL. */
__attribute__((visibility("default")))
long take_over(long tid, long pid, const struct takeover_block *block, uint64_t *base, struct arguments *arguments)
{
    struct stack stack;
    struct registers registers;

    long result = open_stack(&stack, tid, pid, block, &registers);
    if (result)
        return result;
    if (arguments)
        read_arguments(&stack, registers.STACK_POINTER, arguments);
    uint64_t slot = find_entry(&stack, registers.STACK_POINTER, AT_SYSINFO_EHDR);
    *base = slot ? read_word(&stack, slot) : 0;
    result = NO_VDSO_FOUND;
    if (*base)
        result = write_parameters(stack.memory, block, *base, slot, &registers);
    if (!result)
        result = write_block(stack.memory, block, *base);
    syscall1(NR_close, stack.memory);
    if (result)
        return result;
    registers.PROGRAM_COUNTER = *base + block->start;
    return set_registers(tid, &registers);
}
