/*
 * long hop(long a, ucontext_t *from, ucontext_t *to) = 3 * a + 1: switches contexts in its middle, and goes on where
 * another context comes back. The call is at hop_call, what follows it at hop_behind.
 */
    .text
    .globl hop, hop_call, hop_behind
    .type hop, @function
    .type hop_call, @notype
    .type hop_behind, @notype
    .p2align 4
hop:
    .cfi_startproc
    push    %rbx
    .cfi_def_cfa_offset 16
    .cfi_offset rbx, -16
    mov     %rdi, %rbx
    mov     %rsi, %rdi
    mov     %rdx, %rsi
hop_call:
    call    swapcontext@PLT
hop_behind:
    lea     1(%rbx,%rbx,2), %rax
    pop     %rbx
    .cfi_def_cfa_offset 8
    ret
    .cfi_endproc
    .size hop, . - hop
    .section .note.GNU-stack, "", @progbits
