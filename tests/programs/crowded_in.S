/*
 * `long crowded_in(long n)` adds 0x12345 n times. Its first instruction is too short for a jump: the next one is jumped to.
 * No pun of it leads out of the program, and no padding is near; a neighbour can make room.
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
    xor %eax, %eax
1:  .byte 0xe9                      /* to the next instruction: no pun ends in it */
    .long 0
    .globl neighbour
neighbour:
    dec %rdi
    js 2f
    mov %rdi, %rdx
    lea 0x12345(%rax), %rax
    jmp 1b
2:  ret
    .size crowded_in, . - crowded_in

    .type behind, @function
behind:
    .rept 70
    xor %eax, %eax
    .endr
    ret
    .size behind, . - behind
    .section .note.GNU-stack, "", @progbits
