/*
 * Shows: a 32-bit process without a C library, whose thread has no thread pointer: gs is 0.
 *
 * Says `ready`, calls `tick` for each byte that it reads, and says `over` when its standard input ends.
 */
    .globl _start, tick
    .type tick, @function
    .text
_start:
    mov $4, %eax            /* write(1, ready, length) */
    mov $1, %ebx
    mov $ready, %ecx
    mov $length, %edx
    int $0x80
next:
    mov $3, %eax            /* read(0, buffer, 1) */
    xor %ebx, %ebx
    mov $buffer, %ecx
    mov $1, %edx
    int $0x80
    test %eax, %eax
    jle end
    push $0x4321
    push $0x1234
    call tick
    add $8, %esp
    cmp $0x5555, %eax
    je next
    ud2
end:
    mov $4, %eax            /* write(1, over, 5) */
    mov $1, %ebx
    mov $over, %ecx
    mov $5, %edx
    int $0x80
    mov $1, %eax            /* exit(0) */
    xor %ebx, %ebx
    int $0x80

    .balign 16
tick:                       /* tick(a, b) = a + b */
    mov 4(%esp), %eax
    add 8(%esp), %eax
    ret
    .size tick, . - tick

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
