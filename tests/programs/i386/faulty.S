/*
 * long raises(long a) = 0: its third instruction is undefined on purpose, and a jump over its entry covers it.
 */
    .text
    .balign 16
    .globl raises
    .type raises, @function
raises:
    .cfi_startproc
    push %ebp
    .cfi_def_cfa_offset 8
    xor %eax, %eax
    ud2
    pop %ebp
    .cfi_def_cfa_offset 4
    ret
    .cfi_endproc
    .size raises, . - raises
    .section .note.GNU-stack, "", @progbits
