/*
 * The code of ../state.S for i386: eight general registers but esp, eight vector registers, nothing below the stack
 * pointer. `in` is kept in the program's own memory, since every register is loaded from it. The variants with wide
 * vector registers are the same as the others where the program says that it has none.
 */
    .set GENERAL, 0                 /* eax ebx ecx edx esi edi ebp */
    .set FLAGS, 28
    .set STACK, 32
    .set VECTOR, 36                 /* 8 times 32 bytes */

    .text
    .macro load_vectors wide
    .irp n, 0,1,2,3,4,5,6,7
    .if \wide
    vmovdqu VECTOR+32*\n(%eax), %ymm\n
    .else
    movdqu VECTOR+32*\n(%eax), %xmm\n
    .endif
    .endr
    .endm
    .macro store_vectors wide
    .irp n, 0,1,2,3,4,5,6,7
    .if \wide
    vmovdqu %ymm\n, VECTOR+32*\n(%eax)
    .else
    movdqu %xmm\n, VECTOR+32*\n(%eax)
    .endif
    .endr
    .endm

    /* At the site's stack pointer: a free word, six arguments (edi esi edx ecx ebx eax of `in`), the address of `out`, the stack pointer. */
    .macro enter_state name wide
    .balign 16
    .globl state_\name
    .type state_\name, @function
state_\name:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov 20(%esp), %eax
    mov 24(%esp), %edx
    load_vectors \wide
    sub $36, %esp
    mov %edx, 28(%esp)
    mov %esp, 32(%esp)
    .irp n, 0,4,8,12,16,20
    mov GENERAL+20-\n(%eax), %edx
    mov %edx, 4+\n(%esp)
    .endr
    push FLAGS(%eax)
    popf
    /* From here to the end nothing but moves: they leave the flags alone. */
    mov GENERAL+4(%eax), %ebx
    mov GENERAL+8(%eax), %ecx
    mov GENERAL+12(%eax), %edx
    mov GENERAL+16(%eax), %esi
    mov GENERAL+20(%eax), %edi
    mov GENERAL+24(%eax), %ebp
    mov GENERAL+0(%eax), %eax
    .endm

    .macro leave_state name wide
    mov %eax, (%esp)
    mov 28(%esp), %eax
    mov %ebx, GENERAL+4(%eax)
    mov %ecx, GENERAL+8(%eax)
    mov %edx, GENERAL+12(%eax)
    mov %esi, GENERAL+16(%eax)
    mov %edi, GENERAL+20(%eax)
    mov %ebp, GENERAL+24(%eax)
    mov (%esp), %ecx
    mov %ecx, GENERAL+0(%eax)
    pushf
    pop FLAGS(%eax)
    cld
    store_vectors \wide
    mov %esp, %ecx
    sub 32(%esp), %ecx
    mov %ecx, STACK(%eax)
    add $36, %esp
    .if \wide
    vzeroupper
    .endif
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret
    .endm

    .macro site name
    .globl site_\name
site_\name:
    .endm

    .macro variants wide suffix
    /* One instruction of five bytes: a jump without interiors. */
    enter_state nop5\suffix, \wide
    site nop5\suffix
    .byte 0x0f, 0x1f, 0x44, 0x00, 0x00
    leave_state nop5\suffix, \wide
    .size state_nop5\suffix, . - state_nop5\suffix

    /* Short instructions: a jump over several, with boundaries at 1, 3 and 4. */
    enter_state span\suffix, \wide
    site span\suffix
    nop
    mov %esi, %esi
    nop
    mov %edi, %edi
    leave_state span\suffix, \wide
    .size state_span\suffix, . - state_span\suffix

    /* A branch target right behind a short instruction, and one inside it: a breakpoint. */
    enter_state trap\suffix, \wide
    site trap\suffix
    xchg %ax, %ax
2:  leave_state trap\suffix, \wide
    jmp 2b
    jmp site_trap\suffix + 1
    .size state_trap\suffix, . - state_trap\suffix

    /* The same, but a jump may end in the instruction behind, which leads to 1.5 GiB above. */
    enter_state pun\suffix, \wide
    site pun\suffix
    .byte 0x3e, 0x89, 0xf6          /* mov %esi, %esi of three bytes */
2:  .byte 0xeb, 0x60                /* jmp .+0x62 */
    .skip 0x60, 0x90
    leave_state pun\suffix, \wide
    jmp 2b
    .size state_pun\suffix, . - state_pun\suffix

    /* A relative call and its callee, both probed. */
    enter_state call\suffix, \wide
    site call\suffix
    call leaf\suffix
    leave_state call\suffix, \wide
    .size state_call\suffix, . - state_call\suffix

    .balign 16
    .globl leaf\suffix
    .type leaf\suffix, @function
leaf\suffix:
    mov %esi, %esi
    mov %edi, %edi
    ret
    .size leaf\suffix, . - leaf\suffix

    /* A register is dead here, for the next instructions overwrite it: what is not dead must be kept all the same. */
    enter_state dead\suffix, \wide
    mov %eax, (%esp)
    site dead\suffix
    mov $0, %eax
    mov (%esp), %eax
    leave_state dead\suffix, \wide
    .size state_dead\suffix, . - state_dead\suffix
    .endm

    variants 0,
    variants 1, _wide
    .section .note.GNU-stack, "", @progbits
