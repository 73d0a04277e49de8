/* x86-64: the one vDSO function that is not C. __vdso_sgx_enter_enclave has a calling convention
 * of its own beyond the C one (arch/x86/entry/vdso/vsgx.S), so it is a plain jump; rax is free on entry. */
    .globl __vdso_sgx_enter_enclave
    .type __vdso_sgx_enter_enclave, @function
    .hidden vdso_process_page
__vdso_sgx_enter_enclave:
    .cfi_startproc
    movq vdso_process_page + 40(%rip), %rax
    jmp *%rax
    .cfi_endproc
    .size __vdso_sgx_enter_enclave, . - __vdso_sgx_enter_enclave

/* Where the tracer has a stat, or what opens a file, return to, when it stops at its entry (tracer/fastpath.c): rcx has
 * where the program goes on, as behind any system call (Intel SDM vol. 2, SYSCALL). What stands before each is for a call
 * that the kernel makes again, as if its instruction stood there (handle_signal, arch/x86/kernel/signal.c). Flags and registers stay as they are
 * behind a system call, and so does what lies below the stack pointer (System V ABI x86-64, 3.2.2). */
    .hidden tell_stamps
    .hidden tell_opened
    .macro returns name, function, argument, another=$0
    jmp made_again\@
    .globl \name
    .hidden \name
\name:
    .cfi_startproc
    .cfi_def_cfa %rsp, 0
    .cfi_register %rip, %rcx
    leaq -128(%rsp), %rsp
    .cfi_adjust_cfa_offset 128
    pushfq
    .cfi_adjust_cfa_offset 8
    pushq %rcx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rip, 0
    pushq %rax
    .cfi_adjust_cfa_offset 8
    pushq %rdx
    .cfi_adjust_cfa_offset 8
    pushq %rsi
    .cfi_adjust_cfa_offset 8
    pushq %rdi
    .cfi_adjust_cfa_offset 8
    pushq %r8
    .cfi_adjust_cfa_offset 8
    pushq %r9
    .cfi_adjust_cfa_offset 8
    pushq %r10
    .cfi_adjust_cfa_offset 8
    pushq %r11
    .cfi_adjust_cfa_offset 8
    pushq $2 /* no direction, no check of alignment */
    popfq
    movq \argument, %rsi
    movl \another, %edx
    movq %rax, %rdi
    call \function
    popq %r11
    .cfi_adjust_cfa_offset -8
    popq %r10
    .cfi_adjust_cfa_offset -8
    popq %r9
    .cfi_adjust_cfa_offset -8
    popq %r8
    .cfi_adjust_cfa_offset -8
    popq %rdi
    .cfi_adjust_cfa_offset -8
    popq %rsi
    .cfi_adjust_cfa_offset -8
    popq %rdx
    .cfi_adjust_cfa_offset -8
    popq %rax
    .cfi_adjust_cfa_offset -8
    popq %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    popfq
    .cfi_adjust_cfa_offset -8
    leaq 128(%rsp), %rsp
    .cfi_adjust_cfa_offset -128
    jmp *%rcx
    .cfi_endproc
made_again\@:
    leaq -2(%rcx), %rcx
    jmp *%rcx
    .endm

    returns return_of_stat, tell_stamps, %rsi
    returns return_of_fstatat, tell_stamps, %rdx
    returns return_of_statx, tell_stamps, %r8, $1 /* of STAMP_RECORDS */
    returns return_of_open, tell_opened, %rdi, $-100 /* AT_FDCWD, linux/fcntl.h */
    returns return_of_openat, tell_opened, %rsi, %edi

/* By which they are found (image.py): how many, and each relative to its own place here. */
    .balign 8
    .ascii "returns of calls"
    .long 5
    .long return_of_stat - .
    .long return_of_fstatat - .
    .long return_of_statx - .
    .long return_of_open - .
    .long return_of_openat - .

    .section .note.GNU-stack, "", @progbits
