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
    push    %esi
    .cfi_def_cfa_offset 8
    .cfi_offset esi, -8
    push    %ebx
    .cfi_def_cfa_offset 12
    .cfi_offset ebx, -12
    mov     12(%esp), %esi
    call    1f                      /* what a procedure linkage table wants in ebx */
1:  pop     %ebx
    add     $_GLOBAL_OFFSET_TABLE_+[.-1b], %ebx
    push    20(%esp)
    .cfi_adjust_cfa_offset 4
    push    20(%esp)
    .cfi_adjust_cfa_offset 4
hop_call:
    call    swapcontext@PLT
hop_behind:
    add     $8, %esp
    .cfi_adjust_cfa_offset -8
    lea     1(%esi,%esi,2), %eax
    pop     %ebx
    .cfi_def_cfa_offset 8
    pop     %esi
    .cfi_def_cfa_offset 4
    ret
    .cfi_endproc
    .size hop, . - hop
    .section .note.GNU-stack, "", @progbits
