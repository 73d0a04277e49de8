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
    .section .note.GNU-stack, "", %progbits
