/* i386: the loader's entry and its way out. The stack pointer is the program's own; a new program
 * finds every other register zero (ELF_PLAT_INIT, arch/x86/include/asm/elf.h). With none to spare,
 * and no addresses relative to the instruction pointer, `ret` is what can lead to the entry point:
 * its word is below the stack by then, where the loader's frames have been. */
#include "../loader_failed.h"
    .section .text.entry, "ax", @progbits
    .globl loader_entry, loader_failed
loader_entry:
    call here
here:
    popl %ebx
    addl $loader_parameters - here, %ebx
    pushl %ebx
    call load /* cdecl: ebx is kept */
    addl $4, %esp
    testl %eax, %eax
    jnz fail
    pushl (%ebx)
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    xorl %edx, %edx
    xorl %esi, %esi
    xorl %edi, %edi
    xorl %ebp, %ebp
    ret
fail:
    movl %eax, %ebx
    movl $LOADER_FAILED, %eax
    int $0x80
loader_failed: /* the instruction pointer in that call */
    int3

    .section .parameters, "a", @progbits
    .globl loader_parameters
    .balign 8
loader_parameters:
    .skip 160
    .section .note.GNU-stack, "", @progbits
