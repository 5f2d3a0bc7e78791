/*
 * The functions of ../insns.S for i386, with what is different there: the argument is in edi, everything but ebx and ebp
 * may be changed, and addresses are learnt by a call.
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
    /* The address of a label. */
    .macro address label reg
    call 99f
99: pop %\reg
    lea \label - 99b(%\reg), %\reg
    .endm

    insn nop
    mov %edi, %eax
    site nop
    nop
2:  behind; tight nop

    insn push
    site push
    push %edi
2:  behind; pop %eax
    tight push

    insn pop
    push %edi
    site pop
    pop %eax
2:  behind; tight pop

    insn push_rsp                   /* pushes the value before the push */
    site push_rsp
    push %esp
2:  behind; pop %eax
    sub %esp, %eax
    add %edi, %eax
    tight push_rsp

    insn leave
    push %ebp
    mov %esp, %ebp
    sub $64, %esp
    mov %edi, %eax
    site leave
    leave
2:  behind; tight leave

    insn enter
    site enter
    enter $16, $0
2:  behind; mov %edi, -8(%ebp)
    mov -8(%ebp), %eax
    leave
    tight enter

    insn xchg
    mov %edi, %edx
    xor %eax, %eax
    site xchg
    xchg %edx, %eax
2:  behind; tight xchg

    insn cmc
    bt $0, %edi
    site cmc
    cmc
2:  behind; sbb %eax, %eax
    tight cmc

    insn adc
    mov %edi, %eax
    bt $0, %edi
    site adc
    adc $0, %eax
2:  behind; tight adc

    insn std
    site std
    std
2:  behind; pushf
    pop %eax
    cld
    and $0x500, %eax
    tight std

    insn lahf
    xor %eax, %eax
    bt $0, %edi
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
2:  behind; add $1, %eax
3:  lea 2(%eax), %eax
    tight jcc

    insn jcc_near
    and $7, %edi
    xor %eax, %eax
    cmp $4, %edi
    site jcc_near
    .byte 0x0f, 0x8c                /* jl rel32 */
    .long 3f - (. + 4)
    add $1, %eax
3:  lea 2(%eax), %eax
    loose jcc_near

    insn loop
    xor %eax, %eax
    mov $3, %ecx
1:  add $10, %eax
    site loop
    loop 1b
2:  behind; tight loop

    insn loop_self                  /* a branch to itself: a hit for each time round */
    mov $5, %ecx
    site loop_self
    loop .Lsite_loop_self
2:  behind; lea (%edi, %ecx), %eax
    tight loop_self

    insn loope                      /* equal in the first round, not in the second */
    xor %eax, %eax
    mov $4, %ecx
1:  inc %eax
    cmp $1, %eax
    site loope
    loope 1b
2:  behind; imul $100, %ecx, %ecx
    add %ecx, %eax
    tight loope

    insn loopne
    xor %eax, %eax
    mov $4, %ecx
1:  inc %eax
    cmp $2, %eax
    site loopne
    loopne 1b
2:  behind; imul $100, %ecx, %ecx
    add %ecx, %eax
    tight loopne

    insn jecxz
    mov $1, %eax
    mov %edi, %ecx
    and $1, %ecx
    site jecxz
    jecxz 3f
2:  behind; inc %eax
3:  tight jecxz

    insn jcxz                       /* looks at the lower half alone */
    mov $1, %eax
    mov %edi, %ecx
    and $1, %ecx
    or $0x70000, %ecx
    site jcxz
    jcxz 3f
2:  behind; inc %eax
3:  tight jcxz

    insn jmp_short
    mov %edi, %eax
    site jmp_short
    jmp 3f
2:  behind; inc %eax
3:  tight jmp_short

    insn jmp_reg
    address 3f, edx
    mov %edi, %eax
    site jmp_reg
    jmp *%edx
2:  behind; inc %eax
3:  tight jmp_reg

    insn jmp_stack
    address 3f, edx
    mov %edi, %eax
    push %edx
    site jmp_stack
    jmp *(%esp)
2:  behind; inc %eax
3:  pop %edx
    tight jmp_stack

    insn jmp_far                    /* through memory at a distance of 32 bits */
    address 3f, edx
    mov %edi, %eax
    push %edx
    lea -0x12345678(%esp), %edx
    site jmp_far
    jmp *0x12345678(%edx)
    inc %eax
3:  pop %edx
    loose jmp_far

/* Returns its own return address. */
    .balign 16
    .type return_address, @function
return_address:
    mov (%esp), %eax
    ret
    .size return_address, . - return_address

    insn call_rel
    site call_rel
    call return_address
1:  address 1b, edx
    sub %edx, %eax
    add %edi, %eax
    loose call_rel

    insn call_next                  /* the old way to learn one's own address */
    site call_next
    call 1f
1:  pop %eax
    address 1b, edx
    sub %edx, %eax
    add %edi, %eax
    loose call_next

    insn call_reg
    address return_address, edx
    site call_reg
    call *%edx
2:  behind; address 2b, edx
    sub %edx, %eax
    add %edi, %eax
    tight call_reg

    insn call_stack                 /* the operand is read before the return address is pushed */
    address return_address, edx
    push %edx
    push $0
    site call_stack
    call *4(%esp)
2:  behind; add $8, %esp
    address 2b, edx
    sub %edx, %eax
    add %edi, %eax
    tight call_stack

    insn ret
    mov %edi, %eax
    test %eax, %eax
    site ret
    ret
2:  behind; inc %eax
    tight ret

    .balign 16
    .type takes_two, @function
takes_two:
    mov 8(%esp), %eax
    sub 4(%esp), %eax
    site ret_imm
    ret $8
2:  behind; inc %eax
    ret
    jmp 2b
    .size takes_two, . - takes_two

    insn ret_imm
    mov %esp, %edx
    push %edi
    push $0
    call takes_two
    sub %esp, %edx
    add %edx, %eax
    loose ret_imm

    insn rep_movs
    push %edi
    push $0
    lea 4(%esp), %esi
    mov %esp, %edi
    mov $4, %ecx
    site rep_movs
    rep movsb
2:  behind; pop %eax
    pop %edx
    add %ecx, %eax
    tight rep_movs

    insn rep_stos
    mov %edi, %eax
    push $0
    mov %esp, %edi
    mov $4, %ecx
    site rep_stos
    rep stosb
2:  behind; pop %eax
    add %ecx, %eax
    tight rep_stos

    insn repe_cmps                  /* differs in the third byte: one is left */
    push $0x64636261
    mov %esp, %esi
    push $0x64586261
    mov %esp, %edi
    mov $4, %ecx
    site repe_cmps
    repe cmpsb
2:  behind; pop %eax
    pop %edx
    mov %ecx, %eax
    tight repe_cmps

    insn pushf                      /* direction and carry as set, and no trap flag */
    test $1, %edi
    jz 1f
    std
1:  bt $0, %edi
    site pushf
    pushf
2:  behind; pop %eax
    cld
    and $0x501, %eax
    tight pushf

    insn popf
    mov %edi, %eax
    and $0xcd5, %eax
    or $0x202, %eax
    push %eax
    site popf
    popf
2:  behind; pushf
    pop %eax
    cld
    and $0xdd5, %eax
    tight popf

    insn pusha                      /* eight registers, the stack pointer as it was among them */
    xor %eax, %eax
    mov %esp, %edx
    site pusha
    pusha
2:  behind; sub 12(%esp), %edx
    mov (%esp), %eax
    add %edx, %eax
    add $32, %esp
    tight pusha

    insn popa
    xor %eax, %eax
    pusha
    mov %edi, 28(%esp)
    site popa
    popa
2:  behind; tight popa

    insn daa                        /* 64-bit mode has none of these */
    mov %edi, %eax
    and $0x707, %eax
    add $0x06, %al
    site daa
    daa
2:  behind; movzbl %al, %eax
    tight daa

    insn segment
    xor %eax, %eax
    push %ds
    site segment
    pop %es
2:  behind; mov %es, %eax
    mov %ds, %edx
    sub %edx, %eax
    add %edi, %eax
    tight segment

    insn syscall                    /* by the interrupt */
    mov $20, %eax
    site syscall
    int $0x80
2:  behind; tight syscall

    insn call_gs                    /* by the vDSO, as dynamic programs do */
    mov $20, %eax
    site call_gs
    call *%gs:0x10
    nop
    loose call_gs

    insn cpuid
    push %ebx
    xor %eax, %eax
    xor %ecx, %ecx
    site cpuid
    cpuid
2:  behind; mov %ebx, %eax
    pop %ebx
    tight cpuid

    insn rdtsc
    site rdtsc
    rdtsc
2:  behind; mov %edi, %eax
    tight rdtsc

    insn gs
    site gs
    mov %gs:0, %eax
    sub (%eax), %eax
    add %edi, %eax
    loose gs

    insn lock
    push $1
    mov $-1, %eax
    site lock
    lock xadd %eax, (%esp)
    pop %edx
    add %edx, %eax
    lea -1(%eax, %edi), %eax
    loose lock

    insn endbr
    site endbr
    endbr32
    mov %edi, %eax
    nop
    nop
    loose endbr

    insn sse
    movd %edi, %xmm3
    pxor %xmm4, %xmm4
    site sse
    movaps %xmm3, %xmm4
2:  behind; movd %xmm4, %eax
    tight sse

    insn x87
    push %edi
    fildl (%esp)
    site x87
    fistpl (%esp)
    pop %eax
    loose x87

    .section .note.GNU-stack, "", @progbits
