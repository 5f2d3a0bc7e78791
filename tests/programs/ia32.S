/*
 * Shows: a 32-bit process. It has no C library: few machines have one for it.
 *
 * Says `ready`, and `over` when its standard input ends.
 */
    .globl _start
    .text
_start:
    mov $4, %eax            /* write(1, ready, length) */
    mov $1, %ebx
    mov $ready, %ecx
    mov $length, %edx
    int $0x80
    mov $3, %eax            /* read(0, buffer, 1) */
    xor %ebx, %ebx
    mov $buffer, %ecx
    mov $1, %edx
    int $0x80
    test %eax, %eax
    jg _start
    mov $4, %eax            /* write(1, over, 5) */
    mov $1, %ebx
    mov $over, %ecx
    mov $5, %edx
    int $0x80
    mov $1, %eax            /* exit(0) */
    xor %ebx, %ebx
    int $0x80

    .section .rodata
ready:
    .ascii "ready\n"
    .set length, . - ready
over:
    .ascii "over\n"

    .bss
buffer:
    .skip 1

    .section .note.GNU-stack, "", @progbits
