/* 64-bit Arm: the loader's entry and its way out. The stack pointer is the program's own and 16-byte aligned; a new
 * program finds every other register zero (start_thread_common, asm/processor.h). The address of the entry point
 * has to be in a register all the same: x16, which calls between modules may change anyway (AAPCS64). `ret`, as
 * what `br` leads to must begin with a landing pad where the program has those (BTI). */
#include "program/loader.h"
#include "program/loader_failed.h"
    .section .text.entry, "ax", %progbits
    .globl loader_entry, loader_failed
loader_entry:
    sub x0, sp, #PARAMETERS_BELOW_STACK
    bl load /* keeps x19 to x29 */
    cbnz x0, fail
    sub x16, sp, #PARAMETERS_BELOW_STACK
    ldr x16, [x16]
    .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 30
    mov x\n, xzr
    .endr
    ret x16
fail:
    mov x8, #LOADER_FAILED
    svc #0
loader_failed: /* the program counter in that call */
    brk #0

    .section .note.GNU-stack, "", %progbits
