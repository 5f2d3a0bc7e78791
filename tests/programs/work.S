/*
 * The functions that the programs have probed, in assembly so that every instruction boundary is known.
 * `work` begins with the commonest prologue: a jump over it covers two boundaries, at 1 and 4.
 */
    .text
    .macro function name, align=16, behind=0
    .balign \align
    .skip \behind
    .globl \name
    .type \name, @function
\name:
    .cfi_startproc
    .endm
    .macro end name
    .cfi_endproc
    .size \name, . - \name
    .endm

/* long work(long a, long b) = 3 * (a + b + 7). With ACROSS the jump over its beginning goes on in another page. */
#ifdef ACROSS
    function work, 4096, 4093
#else
    function work
#endif
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset rbp, -16
    mov %rsp, %rbp
    mov work_scale(%rip), %rax
    lea (%rax, %rdi), %rax
    add %rsi, %rax
    imul $3, %rax, %rax
    pop %rbp
    .cfi_def_cfa_offset 8
    ret
    end work

/* long neighbour(long a) = a ^ 0x55 */
    function neighbour
    mov %rdi, %rax
    xor $0x55, %rax
    ret
    end neighbour

/* long tiny(long a) = a + 1: four bytes and a return, no jump fits without the padding behind it. */
    function tiny
    lea 1(%rdi), %rax
    ret
    end tiny

/*
 * long trapped(long a) = a + 2 * (number of times round): its second instruction is two bytes long and right in front
 * of a loop's head, which is a known branch target, and is one itself, like its second byte, so that only a breakpoint fits there. Called with a = 1..: two rounds. With PUN a jump
 * may end in the instruction at the loop's head: it leads to 1.5 GiB above.
 */
    function trapped
    mov $2, %ecx
trapped_site:
    mov %edi, %eax
1:
#ifdef PUN
    test $0x6000, %eax
#endif
    add $2, %rax
    dec %ecx
    jnz 1b
    ret
    jmp trapped_site
#ifndef PUN
    jmp trapped_site + 1
#endif
    end trapped
    .globl trapped_site
    .type trapped_site, @notype

/*
 * long enter_work_inside(long a, long b, void *inside): does what the first instruction of `work` does and jumps to
 * the second, through an address that no analysis can know. Same result as work(a, b).
 */
    function enter_work_inside
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset rbp, -16
    jmp *%rdx
    end enter_work_inside

    .section .rodata
    .balign 8
work_scale: .quad 7
    .section .note.GNU-stack, "", @progbits
