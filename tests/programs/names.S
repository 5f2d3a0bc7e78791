/*
 * Shows: symbols of odd kinds around one function, for names.c.
 *
 * odd_function   a function, with an alias of another name
 * odd_sizeless   a function whose symbol has no size, as hand-written assembly often has
 * odd_object     data in the middle of the text
 */
    .text
    .globl odd_function, odd_alias, odd_sizeless, odd_object
    .type odd_function, @function
    .type odd_alias, @function
    .type odd_sizeless, @function
    .type odd_object, @object

odd_function:
odd_alias:
    lea 1(%rdi), %eax
    add $1, %eax
    ret
    .size odd_function, . - odd_function
    .size odd_alias, . - odd_function

odd_object:
    .quad 0x0102030405060708
    .size odd_object, 8

odd_sizeless:
    lea 3(%rdi), %eax
    add $4, %eax
    ret

    .section .note.GNU-stack, "", @progbits
