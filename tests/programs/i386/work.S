/*
 * The functions of ../work.S for i386. `work` begins with the commonest prologue: a jump over it covers two boundaries,
 * at 1 and 4.
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
    push %ebp
    .cfi_def_cfa_offset 8
    .cfi_offset ebp, -8
    lea (%esp), %ebp                /* three bytes, as long as everything here as in ../work.S */
    .byte 0x8d, 0x04, 0x25          /* lea 7, %eax */
    .long 7
    add 8(%esp), %eax
    add 12(%ebp), %eax
    .byte 0x8d, 0x44, 0x40, 0x00    /* lea (%eax,%eax,2), %eax */
    pop %ebp
    .cfi_def_cfa_offset 4
    ret
    end work

/* long neighbour(long a) = a ^ 0x55 */
    function neighbour
    nopl (%eax)
    mov 4(%esp), %eax
    xor $0x55, %eax
    ret
    end neighbour

/* long tiny(long a) = a + 1: no jump fits without the return. */
    function tiny
    mov 4(%esp), %eax
    inc %eax
    ret
    end tiny

/*
 * long trapped(long a) = a + 2 * (number of times round): its second instruction is two bytes long and right in front
 * of a loop's head, which is a known branch target, and is one itself, like its second byte, so that only a breakpoint
 * fits there. With PUN a jump may end in the instruction at the loop's head: it leads to 1.5 GiB above.
 */
    function trapped
    mov $2, %ecx
trapped_site:
    xor %eax, %eax
1:
#ifdef PUN
    test $0x6000, %eax
#endif
    add $2, %eax
    dec %ecx
    jnz 1b
    add 4(%esp), %eax
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
    push %ebp
    .cfi_def_cfa_offset 8
    .cfi_offset ebp, -8
    mov 16(%esp), %eax
    jmp *%eax
    end enter_work_inside

    .section .note.GNU-stack, "", @progbits
