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
    .section .note.GNU-stack, "", @progbits
