# What instructions run in: pages for code, a page for data, routines for the floating-point registers, which the stub has one by
# one only, and what work.c has. Each part ends in a breakpoint; the driver goes on elsewhere.

        .equ    CODE, 64 << 20
        .equ    DATA, 4096
#if __riscv_xlen == 64
        .equ    WORD, 8
#else
        .equ    WORD, 4
#endif

        .globl  _start
_start:
        li      a1, CODE
        li      a2, 7                   # PROT_READ | PROT_WRITE | PROT_EXEC
        call    map
        mv      s0, a0
        li      a1, DATA
        li      a2, 3                   # PROT_READ | PROT_WRITE
        call    map
        mv      s1, a0
        lla     s2, load
        lla     s3, save
        lla     s4, __start_probed
        lla     s5, __stop_probed
        lla     s6, work
        lla     s7, done
        ebreak

done:
        ebreak

map:
        li      a0, 0
        li      a3, 0x22                # MAP_PRIVATE | MAP_ANONYMOUS
        li      a4, -1
        li      a5, 0
        li      a7, 222                 # mmap; of 32 bits mmap2
        ecall
        ret

# From t6 on: f0 to f31, fcsr.
        .macro  each op
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        \op     f\n, 8 * \n(t6)
        .endr
        .endm

load:
        each    fld
        lw      t5, 256(t6)
        fscsr   t5
        ebreak

save:
        each    fsd
        frcsr   t5
        sw      t5, 256(t6)
        ebreak
