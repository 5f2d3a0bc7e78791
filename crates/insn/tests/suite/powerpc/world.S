# What instructions run in: pages for code, two for data, routines for registers that the stub has one by one only, and what
# work.c has. Each part ends in a breakpoint; the driver goes on elsewhere.

        .equ    CODE, 128 << 20
        .equ    DATA, 8192

#if defined(__powerpc64__) && _CALL_ELF != 2
        .section ".opd", "aw"
        .globl  _start
_start: .quad   start, .TOC.@tocbase, 0
        .text
start:
#else
#if defined(__powerpc64__)
        .abiversion 2
#endif
        .globl  _start
_start:
#endif
        lis     4, CODE@h
        li      5, 7                    # PROT_READ | PROT_WRITE | PROT_EXEC
        bl      map
        mr      14, 3
        li      4, DATA
        li      5, 3                    # PROT_READ | PROT_WRITE
        bl      map
        mr      15, 3
        bcl     20, 31, 1f
1:      mflr    5
        addi    16, 5, load - 1b
        addi    17, 5, save - 1b
        lis     18, __start_probed@ha
        addi    18, 18, __start_probed@l
        lis     19, __stop_probed@ha
        addi    19, 19, __stop_probed@l
        lis     20, work@ha
        addi    20, 20, work@l
#if defined(__powerpc64__) && _CALL_ELF != 2
        ld      20, 0(20)               # of its descriptor
#endif
        addi    21, 5, done - 1b
        trap

done:
        trap

map:
        li      3, 0
        li      6, 0x22                 # MAP_PRIVATE | MAP_ANONYMOUS
        li      7, -1
        li      8, 0
        li      0, 90                   # mmap
        sc
        blr

# From r3 on: 64 vector-scalar registers, or 32 of floating point and 32 vectors of 16 bytes; FPSCR, and TAR.
        .macro  each op, first, from
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        li      4, 16 * (\n + \from)
        \op     \n + \first, 3, 4
        .endr
        .endm

load:
        lfd     0, 1024(3)
        mtfsf   255, 0
#ifdef __powerpc64__
        ld      4, 1032(3)
        mtspr   815, 4
        each    lxvd2x, 0, 0
        each    lxvd2x, 32, 32
#else
        each    lfdx, 0, 0
        each    lvx, 0, 32
#endif
        trap

save:
#ifdef __powerpc64__
        each    stxvd2x, 0, 0
        each    stxvd2x, 32, 32
        mfspr   4, 815
        std     4, 1032(3)
#else
        each    stfdx, 0, 0
        each    stvx, 0, 32
#endif
        mffs    0
        stfd    0, 1024(3)
        trap
