/*
 * `int mix(int n)` adds two constants, which lie behind it, for constants.c. As in the assembly of cryptographic libraries they
 * have no type, and their bytes decode as instructions.
 */
    .text
    .globl mix, mix_key, mix_table
    .type mix, @function
mix:
    mov mix_key(%rip), %eax
    add %edi, %eax
    lea mix_table(%rip), %rdx
    add (%rdx), %eax
    ret
    .size mix, . - mix

    .balign 64
mix_key:
    .long 0x5a827999, 0x5a827999, 0x5a827999, 0x5a827999
mix_table:
    .long 0x6ed9eba1, 0x6ed9eba1, 0x6ed9eba1, 0x6ed9eba1

    .section .note.GNU-stack, "", @progbits
