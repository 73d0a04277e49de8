/* x86-64: the loader's entry and its way out. The stack pointer is the program's own and 16-byte
 * aligned (System V ABI, 3.4.1); a new program finds every other register zero (ELF_PLAT_INIT). */
#include "program/loader.h"
#include "program/loader_failed.h"
    .section .text.entry, "ax", @progbits
    .globl loader_entry, loader_failed
loader_entry:
    leaq -PARAMETERS_BELOW_STACK(%rsp), %rdi
    call load
    testq %rax, %rax
    jnz fail
    xorl %ecx, %ecx
    xorl %edx, %edx
    xorl %esi, %esi
    xorl %edi, %edi
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r10d, %r10d
    xorl %r11d, %r11d
    jmp *-PARAMETERS_BELOW_STACK(%rsp)
fail:
    movl %eax, %edi
    movl $LOADER_FAILED, %eax
    syscall
loader_failed: /* the instruction pointer in that call */
    int3

    .section .note.GNU-stack, "", @progbits
