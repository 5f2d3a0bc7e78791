/*
 * A jump to the next instruction, in which no other jump can end: the bytes that its displacement would get of this one,
 * behind an instruction of one or two bytes, lead to the program itself.
 */
    .macro nopun
    .byte 0xe9
    .long 0
    .endm
