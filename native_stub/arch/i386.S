/* i386: the vDSO functions that are not C, those with conventions of their own. Programs are not
 * led to them: AT_SYSINFO goes on to name the kernel's __kernel_vsyscall, and signal frames the
 * kernel's trampolines. They are for programs that look up the symbols. */

/* A system call, by the register conventions of int 0x80 (vdso(7)). */
    .text
    .globl __kernel_vsyscall
    .type __kernel_vsyscall, @function
    .balign 64
__kernel_vsyscall:
    .cfi_startproc
    int $0x80
    ret
    .cfi_endproc
    .size __kernel_vsyscall, . - __kernel_vsyscall

/* What a signal handler returns to. Unwinders know these by their very bytes (libgcc's
 * config/i386/linux-unwind.h) or by the frame information: the interrupted function's registers are
 * in the struct sigcontext_32 (arch/x86/include/uapi/asm/sigcontext.h) at \offset from the stack
 * pointer. It begins one byte early, for unwinders that look up the return address less one. */
    .macro saved register, offset
    /* DW_CFA_expression, register, 3 bytes: DW_OP_breg4 (esp) + offset, as SLEB128 of two bytes */
    .cfi_escape 0x10, \register, 3, 0x74, ((\offset) & 0x7f) | 0x80, (\offset) >> 7
    .endm
    .macro interrupted offset
    /* DW_CFA_def_cfa_expression, 4 bytes: the sp that is saved at 28, DW_OP_deref */
    .cfi_escape 0x0f, 4, 0x74, ((\offset + 28) & 0x7f) | 0x80, (\offset + 28) >> 7, 0x06
    saved 0, \offset + 44 /* eax */
    saved 1, \offset + 40 /* ecx */
    saved 2, \offset + 36 /* edx */
    saved 3, \offset + 32 /* ebx */
    saved 5, \offset + 24 /* ebp */
    saved 6, \offset + 20 /* esi */
    saved 7, \offset + 16 /* edi */
    saved 8, \offset + 56 /* eip */
    .endm

/* struct sigframe_ia32 (arch/x86/include/asm/sigframe.h), its first word gone with the handler's
 * return: the signal's number, then the sigcontext. */
    .globl __kernel_sigreturn
    .type __kernel_sigreturn, @function
    .balign 64
    .cfi_startproc
    .cfi_signal_frame
    interrupted 4
    nop
__kernel_sigreturn:
    popl %eax
    interrupted 0
    movl $119, %eax /* sigreturn */
    int $0x80
    .cfi_endproc
    .size __kernel_sigreturn, . - __kernel_sigreturn

/* struct rt_sigframe_ia32, likewise: number, two pointers, siginfo (128 bytes), and of struct
 * ucontext_ia32 flags, link and stack (20), then the sigcontext. */
    .globl __kernel_rt_sigreturn
    .type __kernel_rt_sigreturn, @function
    .balign 64
    .cfi_startproc
    .cfi_signal_frame
    interrupted 160
    nop
__kernel_rt_sigreturn:
    movl $173, %eax /* rt_sigreturn */
    int $0x80
    .cfi_endproc
    .size __kernel_rt_sigreturn, . - __kernel_rt_sigreturn
/* Where the tracer has a stat, or what opens a file, return to, as on x86-64 (x86_64.S). A system call leaves no register that
 * may be changed: where the program goes on stands on its stack. */
    .hidden tell_stamps
    .hidden tell_opened
    .hidden vdso_process_page
/* Leaves where calls by __kernel_vsyscall go on (struct vdso_process), and all registers and flags as they are. */
push_syscall_return:
    .cfi_startproc
    pushl (%esp)
    .cfi_adjust_cfa_offset 4
    pushl %eax
    .cfi_adjust_cfa_offset 4
    pushl %ebx
    .cfi_adjust_cfa_offset 4
    call 1f
1:  popl %ebx
    movl vdso_process_page + 48 - 1b(%ebx), %eax
    movl %eax, 12(%esp)
    popl %ebx
    .cfi_adjust_cfa_offset -4
    popl %eax
    .cfi_adjust_cfa_offset -4
    ret
    .cfi_endproc
    .macro returns name, function, argument, another
    .cfi_startproc
    .cfi_undefined %eip
    jmp vsyscall_made_again\@
    call push_syscall_return /* VSYSCALL_RETURN before the name (x86_64.h) */
    jmp goes_on\@
    .cfi_endproc
    jmp made_again\@
    .globl \name
    .hidden \name
\name:
goes_on\@:
    .cfi_startproc
    pushfl
    .cfi_adjust_cfa_offset 4
    pushal
    .cfi_adjust_cfa_offset 32
    pushl $2 /* no direction, no check of alignment */
    popfl
    pushl \another
    .cfi_adjust_cfa_offset 4
    pushl \argument
    .cfi_adjust_cfa_offset 4
    pushl %eax
    .cfi_adjust_cfa_offset 4
    call \function
    addl $12, %esp
    .cfi_adjust_cfa_offset -12
    popal
    .cfi_adjust_cfa_offset -32
    popfl
    .cfi_adjust_cfa_offset -4
    ret
    .cfi_endproc
made_again\@:
    .cfi_startproc
    pushl %eax
    .cfi_adjust_cfa_offset 4
    movl 4(%esp), %eax
    leal -2(%eax), %eax
    movl %eax, 4(%esp)
    popl %eax
    .cfi_adjust_cfa_offset -4
    ret
    .cfi_endproc
vsyscall_made_again\@:
    .cfi_startproc
    .cfi_undefined %eip
    call push_syscall_return
    jmp made_again\@
    .cfi_endproc
    .endm

    returns return_of_stat64, tell_stamps, %ecx, $0
    returns return_of_fstatat64, tell_stamps, %edx, $0
    returns return_of_statx, tell_stamps, %edi, $1 /* of STAMP_RECORDS */
    returns return_of_stat, tell_stamps, %ecx, $2
    returns return_of_oldstat, tell_stamps, %ecx, $3
    returns return_of_open, tell_opened, %ebx, $-100 /* AT_FDCWD, linux/fcntl.h */
    returns return_of_openat, tell_opened, %ecx, %ebx

/* By which they are found, likewise. */
    .balign 8
    .ascii "returns of calls"
    .long 7
    .long return_of_stat64 - .
    .long return_of_fstatat64 - .
    .long return_of_statx - .
    .long return_of_stat - .
    .long return_of_oldstat - .
    .long return_of_open - .
    .long return_of_openat - .

    .section .note.GNU-stack, "", @progbits
