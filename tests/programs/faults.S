/*
 * Instructions that fault, each in three places: at the start of a jump's span (start_), in its middle (middle_), and where
 * only a breakpoint fits (trap_): right in front of a loop's head, where somebody seems to jump into its middle. All may use rdi, rsi, rax, rdx; rcx is 1.
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
    lea     0(%rax,%rax), %r11
    ret
    .size start_\name, . - start_\name
    place middle \name
    nopl    (%rax)
    \code
    lea     0(%rax,%rax), %r11
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

    faulting read   mov (%rdi), %eax
    faulting write  mov %esi, (%rdi)
    faulting divide div %esi
    faulting invalid ud2

/*
 * void call_with(void (*function)(void), const long *registers): all general registers but rsp from `registers`, in the
 * order rax rbx rcx rdx rsi rdi rbp r8 ... r15; the flags CF and PF set.
 */
    .globl call_with
    .type call_with, @function
    .balign 16
call_with:
    push    %rbx
    push    %rbp
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    push    %rdi
    mov     %rsi, %rax
    mov     8(%rax), %rbx
    mov     16(%rax), %rcx
    mov     24(%rax), %rdx
    mov     32(%rax), %rsi
    mov     40(%rax), %rdi
    mov     48(%rax), %rbp
    mov     56(%rax), %r8
    mov     64(%rax), %r9
    mov     72(%rax), %r10
    mov     80(%rax), %r11
    mov     88(%rax), %r12
    mov     96(%rax), %r13
    mov     104(%rax), %r14
    mov     112(%rax), %r15
    pushq   $0x247
    popf
    mov     (%rax), %rax
    call    *(%rsp)
    pop     %rdi
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbp
    pop     %rbx
    ret
    .size call_with, . - call_with
    .section .note.GNU-stack, "", @progbits
