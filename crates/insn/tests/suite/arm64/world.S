// What instructions run in: pages for code, a page for data, routines for the vector registers, which the stub has one by one
// only, and what work.c has, with a part of it. Each part ends in a breakpoint; the driver goes on elsewhere.

        .equ    CODE, 128 << 20
        .equ    PAGE, 4096
        // What is reached from the data lies in it, or in nothing.
        .equ    AROUND, 256 << 10

        .globl  _start
_start:
        ldr     x1, =CODE
        mov     x2, #7                  // PROT_READ | PROT_WRITE | PROT_EXEC
        bl      map
        mov     x19, x0
        ldr     x1, =(2 * AROUND)
        mov     x2, #0                  // PROT_NONE
        bl      map
        add     x20, x0, AROUND
        mov     x0, x20
        mov     x1, PAGE
        mov     x2, #3                  // PROT_READ | PROT_WRITE
        mov     x8, #226                // mprotect
        svc     #0
        adr     x21, load
        adr     x22, save
        ldr     x23, =__start_probed
        ldr     x24, =__stop_probed
        ldr     x25, =work
        adr     x26, done
        brk     #0

done:
        brk     #0

map:
        mov     x0, #0
        mov     x3, #0x22               // MAP_PRIVATE | MAP_ANONYMOUS
        mov     x4, #-1
        mov     x5, #0
        mov     x8, #222                // mmap
        svc     #0
        ret

// From x0 on: v0 to v31, FPCR, FPSR.
        .macro  each op
        .irp    n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
        pair    \op, \n, (\n + 1)
        .endr
        .endm
        .altmacro
        .macro  pair op, first, second
        pair_   \op, \first, %(\second)
        .endm
        .macro  pair_ op, first, second
        \op     q\first, q\second, [x0, #16 * \first]
        .endm

load:
        each    ldp
        add     x0, x0, #512
        ldp     w1, w2, [x0]
        msr     fpcr, x1
        msr     fpsr, x2
        brk     #0

save:
        each    stp
        mrs     x1, fpcr
        mrs     x2, fpsr
        add     x0, x0, #512
        stp     w1, w2, [x0]
        brk     #0

        .section probed, "ax"
// Loads of every kind of literal; an address, a bit that decides.
        .globl  literals
literals:
        ldr     w1, 1f
        ldr     x2, 2f
        ldrsw   x3, 1f
        ldr     s0, 1f
        ldr     d1, 2f
        ldr     q2, 2f
        prfm    pldl1keep, 1f
        eor     x0, x0, x1
        add     x0, x0, x2
        add     x0, x0, x3
        fmov    w1, s0
        fmov    x2, d1
        add     x0, x0, x1
        eor     x0, x0, x2, ror #7
        mov     x3, v2.d[1]
        add     x0, x0, x3
        adr     x4, 3f
        tbz     x0, #3, 4f
        add     x4, x4, #4
4:      br      x4
3:      nop
        add     x0, x0, #1
        ret
        .balign 8
1:      .word   0x89abcdef, 0x01234567
2:      .quad   0xfedcba9876543210, 0x0f1e2d3c4b5a6978
