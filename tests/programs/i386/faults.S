/*
 * Instructions that fault, as in ../faults.S. All may use edi, esi, eax, edx; ecx is 1.
 */
    .text
    .macro place prefix name
    .balign 16
    .globl \prefix\()_\name
    .type \prefix\()_\name, @function
\prefix\()_\name:
    .endm
    .macro faulting name code:vararg
    place start \name
    \code
    lea     0(%eax,%eax), %edx
    ret
    .size start_\name, . - start_\name
    place middle \name
    nopl    (%eax)
    \code
    lea     0(%eax,%eax), %edx
    ret
    .size middle_\name, . - middle_\name
    place trap \name
    jmp     0f
0:
    \code
1:  dec     %ecx
    jnz     1b
    ret
    jmp     0b + 1
    .size trap_\name, . - trap_\name
    .endm

    faulting read   mov (%edi), %eax
    faulting write  mov %esi, (%edi)
    faulting divide div %esi
    faulting invalid ud2

/*
 * void call_with(void (*function)(void), const long *registers): all general registers but esp from `registers`, in the
 * order eax ebx ecx edx esi edi ebp; the flags CF and PF set.
 */
    .globl call_with
    .type call_with, @function
    .balign 16
call_with:
    push    %ebx
    push    %ebp
    push    %esi
    push    %edi
    push    20(%esp)
    mov     28(%esp), %eax
    mov     4(%eax), %ebx
    mov     8(%eax), %ecx
    mov     12(%eax), %edx
    mov     16(%eax), %esi
    mov     20(%eax), %edi
    mov     24(%eax), %ebp
    push    $0x247
    popf
    mov     (%eax), %eax
    call    *(%esp)
    pop     %edi
    pop     %edi
    pop     %esi
    pop     %ebp
    pop     %ebx
    ret
    .size call_with, . - call_with
    .section .note.GNU-stack, "", @progbits
