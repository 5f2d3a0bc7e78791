/*
 * void state_NAME(const struct state *in, struct state *out): loads every register, the flags, the vector registers and
 * the red zone from `in`, runs the probed code, and stores all of them to `out`. struct state is in state.c; its
 * offsets are repeated here. Storing goes through %rip-relative memory first, so that no register is lost.
 */
    .set GENERAL, 0                 /* 15 registers, all but rsp */
    .set FLAGS, 120
    .set STACK, 128
    .set RED, 136                   /* 128 bytes below the stack pointer at the probed code */
    .set VECTOR, 264                /* 16 times 32 bytes */

    .text
    .macro load_vectors wide
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    .if \wide
    vmovdqu VECTOR+32*\n(%rdi), %ymm\n
    .else
    movdqu VECTOR+32*\n(%rdi), %xmm\n
    .endif
    .endr
    .endm
    .macro store_vectors wide
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    .if \wide
    vmovdqu %ymm\n, VECTOR+32*\n(%rdi)
    .else
    movdqu %xmm\n, VECTOR+32*\n(%rdi)
    .endif
    .endr
    .endm

    .macro enter_state name wide red
    .balign 16
    .globl state_\name
    .type state_\name, @function
state_\name:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsi, output(%rip)
    load_vectors \wide
    pushq FLAGS(%rdi)
    popf
    /* From here to the end nothing but moves: they leave the flags alone. */
    .irp n, 0,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120
    mov RED+\n(%rdi), %rax
    mov %rax, \red-128+\n(%rsp)
    .endr
    mov %rsp, stack(%rip)
    mov GENERAL+0(%rdi), %rax
    mov GENERAL+8(%rdi), %rbx
    mov GENERAL+16(%rdi), %rcx
    mov GENERAL+24(%rdi), %rdx
    mov GENERAL+32(%rdi), %rsi
    mov GENERAL+48(%rdi), %rbp
    mov GENERAL+56(%rdi), %r8
    mov GENERAL+64(%rdi), %r9
    mov GENERAL+72(%rdi), %r10
    mov GENERAL+80(%rdi), %r11
    mov GENERAL+88(%rdi), %r12
    mov GENERAL+96(%rdi), %r13
    mov GENERAL+104(%rdi), %r14
    mov GENERAL+112(%rdi), %r15
    mov GENERAL+40(%rdi), %rdi
    .endm

    .macro leave_state name wide red
    mov %rdi, saved(%rip)
    mov output(%rip), %rdi
    mov %rax, GENERAL+0(%rdi)
    mov %rbx, GENERAL+8(%rdi)
    mov %rcx, GENERAL+16(%rdi)
    mov %rdx, GENERAL+24(%rdi)
    mov %rsi, GENERAL+32(%rdi)
    mov %rbp, GENERAL+48(%rdi)
    mov %r8, GENERAL+56(%rdi)
    mov %r9, GENERAL+64(%rdi)
    mov %r10, GENERAL+72(%rdi)
    mov %r11, GENERAL+80(%rdi)
    mov %r12, GENERAL+88(%rdi)
    mov %r13, GENERAL+96(%rdi)
    mov %r14, GENERAL+104(%rdi)
    mov %r15, GENERAL+112(%rdi)
    mov saved(%rip), %rax
    mov %rax, GENERAL+40(%rdi)
    .irp n, 0,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120
    mov \red-128+\n(%rsp), %rax
    mov %rax, RED+\n(%rdi)
    .endr
    lea -256(%rsp), %rsp
    pushf
    popq FLAGS(%rdi)
    lea 256(%rsp), %rsp
    cld
    store_vectors \wide
    mov %rsp, %rax
    sub stack(%rip), %rax
    mov %rax, STACK(%rdi)
    mov stack(%rip), %rsp
    .if \wide
    vzeroupper
    .endif
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .endm

    .macro site name
    .globl site_\name
site_\name:
    .endm

    .macro variants wide suffix
    /* One instruction of five bytes: a jump without interiors. */
    enter_state nop5\suffix, \wide, 0
    site nop5\suffix
    .byte 0x0f, 0x1f, 0x44, 0x00, 0x00
    leave_state nop5\suffix, \wide, 0
    .size state_nop5\suffix, . - state_nop5\suffix

    /* Short instructions: a jump over several, with boundaries at 1 and 4. */
    enter_state span\suffix, \wide, 0
    site span\suffix
    nop
    mov %r8, %r8
    nop
    mov %r9, %r9
    leave_state span\suffix, \wide, 0
    .size state_span\suffix, . - state_span\suffix

    /* A branch target right behind a short instruction, and one inside it: a breakpoint. */
    enter_state trap\suffix, \wide, 0
    site trap\suffix
    xchg %ax, %ax
2:  leave_state trap\suffix, \wide, 0
    jmp 2b
    jmp site_trap\suffix + 1
    .size state_trap\suffix, . - state_trap\suffix

    /* The same, but a jump may end in the instruction behind, which leads to 1.5 GiB above. */
    enter_state pun\suffix, \wide, 0
    site pun\suffix
    mov %r8, %r8
2:  .byte 0xeb, 0x60            /* jmp .+0x62 */
    .skip 0x60, 0x90
    leave_state pun\suffix, \wide, 0
    jmp 2b
    .size state_pun\suffix, . - state_pun\suffix

    /* A relative call and its callee, both probed; the callee's red zone is eight bytes lower. */
    enter_state call\suffix, \wide, -8
    site call\suffix
    call leaf\suffix
    leave_state call\suffix, \wide, -8
    .size state_call\suffix, . - state_call\suffix

    .balign 16
    .globl leaf\suffix
    .type leaf\suffix, @function
leaf\suffix:
    mov %r10, %r10
    mov %r11, %r11
    ret
    .size leaf\suffix, . - leaf\suffix

    /* A register is dead here, for the next instructions overwrite it: what is not dead must be kept all the same. */
    enter_state dead\suffix, \wide, 0
    mov %rax, kept(%rip)
    site dead\suffix
    mov $0, %eax
    mov kept(%rip), %rax
    leave_state dead\suffix, \wide, 0
    .size state_dead\suffix, . - state_dead\suffix
    .endm

    variants 0,
    variants 1, _wide

    .bss
    .balign 8
output: .skip 8
stack: .skip 8
saved: .skip 8
kept: .skip 8
    .section .note.GNU-stack, "", @progbits
