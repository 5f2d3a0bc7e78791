/*
 * ../crowded_in.S for i386: the argument is in eax (regparm), the sum in edx.
 */
    .text
    .balign 1024
    .type before, @function
before:
    .rept 70
    xor %eax, %eax
    .endr
    ret
    .size before, . - before

    .globl crowded_in
    .type crowded_in, @function
crowded_in:
    xor %edx, %edx
1:  .byte 0xe9                      /* to the next instruction: no pun ends in it */
    .long 0
    .globl neighbour
neighbour:
    sub $1, %eax
    js 2f
    .byte 0x8d, 0x48, 0             /* lea 0(%eax), %ecx, of three bytes */
    lea 0x12345(%edx), %edx
    jmp 1b
2:  mov %edx, %eax
    ret
    .size crowded_in, . - crowded_in

    .type behind, @function
behind:
    .rept 70
    xor %eax, %eax
    .endr
    ret
    .size behind, . - behind
    .section .note.GNU-stack, "", @progbits
