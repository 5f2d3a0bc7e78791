# What instructions run in: pages for code, a page for data, routines for the floating-point registers, and what work.c has. Each
# part ends in a breakpoint; the driver goes on elsewhere.

        .set    noat
        .set    noreorder
        .arch   ev67

#define CODE    134217728
#define DATA    8192

        .globl  _start
        .ent    _start
_start:
        br      $27, 1f
1:      ldgp    $29, 0($27)
        ldah    $17, CODE >> 16
        lda     $18, 7                  # PROT_READ | PROT_WRITE | PROT_EXEC
        bsr     $26, map
        mov     $0, $1
        lda     $17, DATA
        lda     $18, 3                  # PROT_READ | PROT_WRITE
        bsr     $26, map
        mov     $0, $2
        lda     $3, load
        lda     $4, save
        lda     $5, __start_probed
        lda     $6, __stop_probed
        lda     $7, work
        lda     $8, done
        call_pal 0x80

done:
        call_pal 0x80

map:
        lda     $16, 0
        lda     $19, 0x12               # MAP_PRIVATE | MAP_ANONYMOUS
        lda     $20, -1
        lda     $21, 0
        lda     $0, 71                  # mmap
        call_pal 0x83
        ret     $31, ($26), 1
        .end    _start

# From a0 on: f0 to f30, the control register.
        .macro  each op
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
        \op     $f\n, 8 * \n($16)
        .endr
        .endm

# With all traps disabled first, for an addition that takes along what qemu's VAX operations leave of exceptions.
load:
        ldiq    $17, 0x6c0e800000000000
        itoft   $17, $f0
        excb
        mt_fpcr $f0
        excb
        addt/su $f31, $f31, $f31
        ldt     $f0, 248($16)
        excb
        mt_fpcr $f0
        excb
        each    ldt
        call_pal 0x80

save:
        each    stt
        excb
        mf_fpcr $f0
        excb
        stt     $f0, 248($16)
        call_pal 0x80
