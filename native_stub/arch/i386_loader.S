/* i386: the loader's entry and its way out. The stack pointer is the program's own; a new program
 * finds every other register zero (ELF_PLAT_INIT, arch/x86/include/asm/elf.h). */
#include "program/loader.h"
#include "program/loader_failed.h"
    .section .text.entry, "ax", @progbits
    .globl loader_entry, loader_failed
loader_entry:
    leal -PARAMETERS_BELOW_STACK(%esp), %eax
    pushl %eax
    call load
    addl $4, %esp
    testl %eax, %eax
    jnz fail
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    xorl %edx, %edx
    xorl %esi, %esi
    xorl %edi, %edi
    xorl %ebp, %ebp
    jmp *-PARAMETERS_BELOW_STACK(%esp)
fail:
    movl %eax, %ebx
    movl $LOADER_FAILED, %eax
    int $0x80
loader_failed: /* the instruction pointer in that call */
    int3

    .section .note.GNU-stack, "", @progbits
