/*
 * Functions `long insn_NAME(long i)` with one instruction under test each, labelled `site_NAME`. Where the instruction
 * is short, the label behind it (2:) is the target of a branch elsewhere in the function, so that a jump does not fit.
 * The instruction itself is such a target too, so that none before it serves it, and only a breakpoint is left; with
 * EARLIER defined it is none, and most are served by a jump that begins earlier; with PUN defined a jump may end in what is
 * behind, or a short one lead to padding. Results say whether registers, flags, stack and addresses were those of an undisturbed run: a difference of
 * addresses is added, which is 0 when they are right.
 */
    .text
    .macro behind
#ifndef PUN                         /* a jump to the next instruction: a displacement of these bytes leads to the program itself */
    .byte 0xe9
    .long 0
#endif
    .endm
    .macro insn name
    .balign 16
    .globl insn_\name
    .type insn_\name, @function
insn_\name:
    .endm
    .macro site name
    .globl site_\name
.Lsite_\name:
#ifdef EARLIER                      /* what a symbol or a pointer leads to is a target: they lead elsewhere */
    .set site_\name, .Lsite_\name + 0x10000000
#else
site_\name:
#endif
    .endm
    /* The end of a function whose label 2 must look like a branch target. */
    .macro tight name
    ret
    jmp 2b
#ifndef EARLIER
    jmp .Lsite_\name
#ifndef PUN                         /* somebody seems to jump into the middle */
    jmp .Lsite_\name + 1
#endif
#endif
    .size insn_\name, . - insn_\name
    .endm
    .macro loose name
    ret
    .size insn_\name, . - insn_\name
    .endm

    insn nop
    mov %rdi, %rax
    site nop
    nop
2:  behind; tight nop

    insn push
    site push
    push %rdi
2:  behind; pop %rax
    tight push

    insn pop
    push %rdi
    site pop
    pop %rax
2:  behind; tight pop

    insn push_rsp                   /* pushes the value before the push */
    site push_rsp
    push %rsp
2:  behind; pop %rax
    sub %rsp, %rax
    add %rdi, %rax
    tight push_rsp

    insn leave
    push %rbp
    mov %rsp, %rbp
    sub $64, %rsp
    mov %rdi, %rax
    site leave
    leave
2:  behind; tight leave

    insn enter
    site enter
    enter $16, $0
2:  behind; mov %rdi, -8(%rbp)
    mov -8(%rbp), %rax
    leave
    tight enter

    insn xchg
    mov %rdi, %rdx
    xor %eax, %eax
    site xchg
    xchg %rdx, %rax
2:  behind; tight xchg

    insn xchg_r8                    /* not a nop, though it has the opcode of one */
    mov %rdi, %r8
    xor %eax, %eax
    site xchg_r8
    .byte 0x49, 0x90
2:  behind; tight xchg_r8

    insn cmc
    bt $0, %rdi
    site cmc
    cmc
2:  behind; sbb %rax, %rax
    tight cmc

    insn adc
    mov %rdi, %rax
    bt $0, %rdi
    site adc
    adc $0, %rax
2:  behind; tight adc

    insn std
    site std
    std
2:  behind; pushf
    pop %rax
    cld
    and $0x500, %eax
    tight std

    insn lahf
    xor %eax, %eax
    bt $0, %rdi
    site lahf
    lahf
2:  behind; movzbl %ah, %eax
    and $3, %eax
    tight lahf

    insn jcc
    and $7, %edi
    xor %eax, %eax
    cmp $4, %edi
    site jcc
    jl 3f
2:  behind; add $1, %rax
3:  lea 2(%rax), %rax
    tight jcc

    insn jcc_near
    and $7, %edi
    xor %eax, %eax
    cmp $4, %edi
    site jcc_near
    .byte 0x0f, 0x8c                /* jl rel32 */
    .long 3f - (. + 4)
    add $1, %rax
3:  lea 2(%rax), %rax
    loose jcc_near

    insn loop
    xor %eax, %eax
    mov $3, %ecx
1:  add $10, %rax
    site loop
    loop 1b
2:  behind; tight loop

    insn loop_self                  /* a branch to itself: a hit for each time round */
    mov $5, %ecx
    site loop_self
    loop .Lsite_loop_self
2:  behind; lea (%rdi, %rcx), %rax
    tight loop_self

    insn loope                      /* equal in the first round, not in the second */
    xor %eax, %eax
    mov $4, %ecx
1:  inc %eax
    cmp $1, %eax
    site loope
    loope 1b
2:  behind; imul $100, %rcx, %rcx
    add %rcx, %rax
    tight loope

    insn loopne
    xor %eax, %eax
    mov $4, %ecx
1:  inc %eax
    cmp $2, %eax
    site loopne
    loopne 1b
2:  behind; imul $100, %rcx, %rcx
    add %rcx, %rax
    tight loopne

    insn jrcxz
    mov $1, %eax
    mov %rdi, %rcx
    and $1, %ecx
    site jrcxz
    jrcxz 3f
2:  behind; inc %eax
3:  tight jrcxz

    insn jecxz
    mov $1, %eax
    mov %rdi, %rcx
    and $1, %ecx
    site jecxz
    jecxz 3f
2:  behind; inc %eax
3:  tight jecxz

    insn jmp_short
    mov %rdi, %rax
    site jmp_short
    jmp 3f
2:  behind; inc %rax
3:  tight jmp_short

    insn jmp_reg
    lea 3f(%rip), %rdx
    mov %rdi, %rax
    site jmp_reg
    jmp *%rdx
2:  behind; inc %rax
3:  tight jmp_reg

    insn jmp_stack
    lea 3f(%rip), %rdx
    mov %rdi, %rax
    push %rdx
    site jmp_stack
    jmp *(%rsp)
2:  behind; inc %rax
3:  pop %rdx
    tight jmp_stack

    insn jmp_rip
    mov %rdi, %rax
    site jmp_rip
    jmp *target_of_jmp(%rip)
    inc %rax
target_jmp:
    loose jmp_rip

/* Returns its own return address. */
    .balign 16
    .type return_address, @function
return_address:
    mov (%rsp), %rax
    ret
    .size return_address, . - return_address

    insn call_rel
    site call_rel
    call return_address
1:  lea 1b(%rip), %rdx
    sub %rdx, %rax
    add %rdi, %rax
    loose call_rel

    insn call_next                  /* the old way to learn one's own address */
    site call_next
    call 1f
1:  pop %rax
    lea 1b(%rip), %rdx
    sub %rdx, %rax
    add %rdi, %rax
    loose call_next

    insn call_reg
    lea return_address(%rip), %rdx
    site call_reg
    call *%rdx
2:  behind; lea 2b(%rip), %rdx
    sub %rdx, %rax
    add %rdi, %rax
    tight call_reg

    insn call_stack                 /* the operand is read before the return address is pushed */
    lea return_address(%rip), %rdx
    push %rdx
    push $0
    site call_stack
    call *8(%rsp)
2:  behind; add $16, %rsp
    lea 2b(%rip), %rdx
    sub %rdx, %rax
    add %rdi, %rax
    tight call_stack

    insn call_rip
    site call_rip
    call *target_of_call(%rip)
1:  lea 1b(%rip), %rdx
    sub %rdx, %rax
    add %rdi, %rax
    loose call_rip

    insn ret
    mov %rdi, %rax
    test %eax, %eax
    site ret
    ret
2:  behind; inc %rax
    tight ret

    .balign 16
    .type takes_two, @function
takes_two:
    mov 16(%rsp), %rax
    sub 8(%rsp), %rax
    site ret_imm
    ret $16
2:  behind; inc %rax
    ret
    jmp 2b
    .size takes_two, . - takes_two

    insn ret_imm
    mov %rsp, %rdx
    push %rdi
    push $0
    call takes_two
    sub %rsp, %rdx
    add %rdx, %rax
    loose ret_imm

    insn rep_movs
    mov %rdi, -16(%rsp)
    movq $0, -24(%rsp)
    lea -16(%rsp), %rsi
    lea -24(%rsp), %rdi
    mov $8, %ecx
    site rep_movs
    rep movsb
2:  behind; mov -24(%rsp), %rax
    add %rcx, %rax
    tight rep_movs

    insn rep_stos
    mov %rdi, %rax
    lea -24(%rsp), %rdi
    mov $8, %ecx
    site rep_stos
    rep stosb
2:  behind; mov -24(%rsp), %rax
    add %rcx, %rax
    tight rep_stos

    insn repe_cmps                  /* differs in the third byte: five are left */
    lea text_one(%rip), %rsi
    lea text_two(%rip), %rdi
    mov $8, %ecx
    site repe_cmps
    repe cmpsb
2:  behind; mov %rcx, %rax
    je 3f
    ret
3:  mov $-1, %rax
    tight repe_cmps

    insn pushf                      /* direction and carry as set, and no trap flag */
    test $1, %dil
    jz 1f
    std
1:  bt $0, %rdi
    site pushf
    pushf
2:  behind; pop %rax
    cld
    and $0x501, %eax
    tight pushf

    insn popf
    mov %rdi, %rax
    and $0xcd5, %eax
    or $0x202, %eax
    push %rax
    site popf
    popf
2:  behind; pushf
    pop %rax
    cld
    and $0xdd5, %eax
    tight popf

    insn syscall                    /* rcx is the address behind the instruction afterwards */
    mov $39, %eax
    site syscall
    syscall
2:  behind; lea 2b(%rip), %rdx
    sub %rcx, %rdx
    add %rdx, %rax
    tight syscall

    insn cpuid
    push %rbx
    xor %eax, %eax
    xor %ecx, %ecx
    site cpuid
    cpuid
2:  behind; mov %ebx, %eax
    pop %rbx
    tight cpuid

    insn rdtsc
    site rdtsc
    rdtsc
2:  behind; mov %rdi, %rax
    tight rdtsc

    insn fs
    site fs
    mov %fs:0, %rax
    sub (%rax), %rax
    add %rdi, %rax
    loose fs

    insn rip_load
    site rip_load
    mov seventy_seven(%rip), %rax
    add %rdi, %rax
    loose rip_load

    insn rip_lea
    lea .Lsite_rip_lea(%rip), %rdx
    site rip_lea
    lea 0(%rip), %rax               /* the address behind itself, 7 bytes on */
    sub %rdx, %rax
    lea -7(%rax, %rdi), %rax
    loose rip_lea

    insn rip_compare
    mov %rdi, %rax
    site rip_compare
    cmpq $77, seventy_seven(%rip)
    je 1f
    inc %rax
1:  loose rip_compare

    insn rip_add
    mov cell(%rip), %rdx
    site rip_add
    addq $5, cell(%rip)
    mov cell(%rip), %rax
    sub %rdx, %rax
    lea -5(%rax, %rdi), %rax
    loose rip_add

    insn lock
    mov $-1, %rax
    movq $1, -8(%rsp)
    site lock
    lock xadd %rax, -8(%rsp)
    add -8(%rsp), %rax
    lea -1(%rax, %rdi), %rax
    loose lock

    insn red_zone
    mov %rdi, -8(%rsp)
    mov %rdi, -128(%rsp)
    movq $0, -64(%rsp)
    site red_zone
    nop
2:  behind; mov -8(%rsp), %rax
    add -64(%rsp), %rax
    xor %rdi, %rax
    xor -128(%rsp), %rax
    tight red_zone

    /* Nops that leave room for a probe: nothing below the stack pointer may change. */
    .macro red_zone_around name bytes:vararg
    insn \name
    .irp n, 8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128
    mov %rdi, -\n(%rsp)
    .endr
    site \name
    .byte \bytes
    xor %eax, %eax
    .irp n, 8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128
    mov -\n(%rsp), %rdx
    xor %rdi, %rdx
    or %rdx, %rax
    .endr
    or %rdi, %rax
    loose \name
    .endm

    red_zone_around red_zone_nop5 0x0f, 0x1f, 0x44, 0, 0
    red_zone_around red_zone_nop10 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0

    .macro prefixed name prefix     /* an ignored segment-override prefix */
    insn \name
    mov %rdi, -8(%rsp)
    site \name
    .byte \prefix
    mov -8(%rsp), %rax
    loose \name
    .endm

    prefixed cs 0x2e
    prefixed ds 0x3e
    prefixed es 0x26
    prefixed ss 0x36

    insn endbr
    site endbr
    endbr64
    mov %rdi, %rax
    nop
    nop
    loose endbr

    insn sse
    movq %rdi, %xmm3
    pxor %xmm4, %xmm4
    site sse
    movaps %xmm3, %xmm4
2:  behind; movq %xmm4, %rax
    tight sse

    .data
    .balign 8
cell: .quad 0
target_of_jmp: .quad target_jmp
target_of_call: .quad return_address
    .section .rodata
    .balign 8
seventy_seven: .quad 77
text_one: .ascii "abcdefgh"
text_two: .ascii "abXdefgh"
    .section .note.GNU-stack, "", @progbits
