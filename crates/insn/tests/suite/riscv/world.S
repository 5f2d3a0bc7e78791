# What instructions run in: pages for code, a page for data, routines for the floating-point registers, which the stub has one by
# one only, and what work.c has. Each part ends in a breakpoint; the driver goes on elsewhere.

        .equ    CODE, 128 << 20
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
        mv      s2, a0
        li      a1, DATA
        li      a2, 3                   # PROT_READ | PROT_WRITE
        call    map
        mv      s3, a0
        lla     s4, load
        lla     s5, save
        lla     s6, __start_probed
        lla     s7, __stop_probed
        lla     s8, work
        lla     s9, done
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

# From a0 on: f0 to f31, fcsr.
        .macro  each op
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        \op     f\n, 8 * \n(a0)
        .endr
        .endm

load:
        each    fld
        lw      t5, 256(a0)
        fscsr   t5
        ebreak

save:
        each    fsd
        frcsr   t5
        sw      t5, 256(a0)
        ebreak
