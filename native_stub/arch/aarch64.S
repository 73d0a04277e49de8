/* 64-bit Arm: the vDSO function that is not C, to which signal handlers return. Programs are not led to it: signal
 * frames go on to name the kernel's. It is for programs that look up the symbol. Unwinders know it by its very
 * instructions (libgcc's config/aarch64/linux-unwind.h), and look up the return address less one: before it, too,
 * there must be something of its own (arch/arm64/kernel/vdso/sigreturn.S). */
    .text
    .balign 64
    nop
    .globl __kernel_rt_sigreturn
    .type __kernel_rt_sigreturn, %function
__kernel_rt_sigreturn:
    mov x8, #139 /* rt_sigreturn */
    svc #0
    .size __kernel_rt_sigreturn, . - __kernel_rt_sigreturn

/* Where the tracer has a stat return to, when it stops at its entry (tracer/fastpath.c): one of the places in a table, which it
 * writes for the place that makes the call (aarch64.h). Each calls what the table begins with. Flags and registers stay as they are
 * behind a system call; vector registers are not touched. */
    .hidden tell_stamps
    .macro returns name, argument, which
\name:
    b called\@
    .space 32 * 5 * 4 /* RETURN_SLOTS, RETURN_WORDS */
called\@:
    sub sp, sp, #176
    stp x0, x1, [sp]
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x30, [sp, #144]
    mrs x16, nzcv
    str x16, [sp, #160]
    mov x1, \argument
    mov x2, \which
    bl tell_stamps
    ldr x16, [sp, #160]
    msr nzcv, x16
    ldp x0, x1, [sp]
    ldp x2, x3, [sp, #16]
    ldp x4, x5, [sp, #32]
    ldp x6, x7, [sp, #48]
    ldp x8, x9, [sp, #64]
    ldp x10, x11, [sp, #80]
    ldp x12, x13, [sp, #96]
    ldp x14, x15, [sp, #112]
    ldp x16, x17, [sp, #128]
    ldp x18, x30, [sp, #144]
    add sp, sp, #176
    ret
    .endm

    returns return_of_fstatat, x2, #0
    returns return_of_fstat, x1, #0
    returns return_of_statx, x4, #1 /* of STAMP_RECORDS */

/* By which they are found (image.py): how many, and each relative to its own place here. */
    .balign 8
    .ascii "returns of calls"
    .long 3
    .long return_of_fstatat - .
    .long return_of_fstat - .
    .long return_of_statx - .

    .section .note.GNU-stack, "", %progbits
