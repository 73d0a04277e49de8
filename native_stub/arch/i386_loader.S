/* i386: the loader's entry and its way out. The stack pointer is the program's own; a new program
 * finds every other register zero (ELF_PLAT_INIT, arch/x86/include/asm/elf.h). With none to spare,
 * and no addresses relative to the instruction pointer, `ret` is what can lead to the entry point:
 * its word is below the stack by then, where the loader's frames have been. */
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
    int3
loader_failed: /* the instruction pointer at the trap */
    nop

    .section .parameters, "a", @progbits
    .globl loader_parameters
    .balign 8
loader_parameters:
    .skip 144
    .section .note.GNU-stack, "", @progbits
