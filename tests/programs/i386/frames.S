/*
 * long stumble(const long *at): loads *at, in an instruction that lies inside the span of a jump at its entry. The pointer
 * is in eax. The instruction that may fault is at +1; its successors are at +3 and +5.
 */
    .text
    .globl stumble
    .type stumble, @function
    .p2align 4
stumble:
    .cfi_startproc
    push    %ebx
    mov     (%eax), %eax
    mov     %eax, %ebx
    lea     5(%ebx,%ebx,2), %eax
    pop     %ebx
    ret
    .cfi_endproc
    .size stumble, . - stumble
    .section .note.GNU-stack, "", @progbits
