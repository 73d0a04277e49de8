/* 64-bit RISC-V: the vDSO functions that are not C or not about time: system calls. */
    .macro call name, number
    .globl \name
    .type \name, @function
    .balign 64
\name:
    li a7, \number
    ecall
    ret
    .size \name, . - \name
    .endm
    .text
    call __vdso_riscv_hwprobe, 258
    call __vdso_flush_icache, 259

/* What signal handlers return to. Unwinders know it by its very instructions (libgcc's
 * config/riscv/linux-unwind.h). */
    .globl __vdso_rt_sigreturn
    .type __vdso_rt_sigreturn, @function
    .balign 64
__vdso_rt_sigreturn:
    li a7, 139
    ecall
    .size __vdso_rt_sigreturn, . - __vdso_rt_sigreturn
    .section .note.GNU-stack, "", @progbits
