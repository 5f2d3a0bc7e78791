/*
 * long stumble(const long *at): loads *at, in an instruction that lies inside the span of a jump at its entry.
 * The instruction that may fault is at +1; its successors are at +4 and +7.
 */
    .text
    .globl stumble
    .type stumble, @function
    .p2align 4
stumble:
    .cfi_startproc
    push    %rbx
    mov     (%rdi), %rax
    mov     %rax, %rbx
    lea     5(%rbx,%rbx,2), %rax
    pop     %rbx
    ret
    .cfi_endproc
    .size stumble, . - stumble
    .section .note.GNU-stack, "", @progbits
