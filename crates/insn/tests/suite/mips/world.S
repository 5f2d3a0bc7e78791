# What instructions run in: pages for code, a page for data, routines for the registers of floating point, vectors and DSP, and what
# work.c has. Each part ends in a breakpoint; the driver goes on elsewhere.

        .set    noreorder
        .set    noat
        .equ    CODE, 128 << 20
        .equ    DATA, 4096
#if _MIPS_SIM == _ABI64
        .equ    MMAP, 5009
        .equ    WORD, 8
#define ADDRESS dla
#define STACK daddiu
#else
        .equ    MMAP, 4090
        .equ    WORD, 4
#define ADDRESS la
#define STACK addiu
#endif

        .text
        .globl  __start
        .ent    __start
__start:
        li      $5, CODE
        jal     map
        li      $6, 7                   # PROT_READ | PROT_WRITE | PROT_EXEC
        move    $16, $2
        li      $5, DATA
        jal     map
        li      $6, 3                   # PROT_READ | PROT_WRITE
        move    $17, $2
        ADDRESS $18, load
        ADDRESS $19, save
        ADDRESS $20, __start_probed
        ADDRESS $21, __stop_probed
        ADDRESS $22, work
        ADDRESS $23, done
        break   5

done:
        break   5

map:
        STACK   $29, $29, -32
        li      $4, 0
        li      $7, 0x802               # MAP_PRIVATE | MAP_ANONYMOUS
        li      $8, -1
        li      $9, 0
#if WORD == 4
        sw      $8, 16($29)
        sw      $9, 20($29)
#endif
        li      $2, MMAP
        syscall
        jr      $31
        STACK   $29, $29, 32
        .end    __start

# From a0 on: f0 to f31 (pairs where they have 32 bits), fcsr, dspcontrol.
        .macro  each op
#if __mips_fpr == 64
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
#else
        .irp    n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#endif
        \op     $f\n, 8 * \n($4)
        .endr
        .endm

load:
        each    ldc1
        lw      $8, 256($4)
        ctc1    $8, $31
#ifdef __mips_dspr2
        lw      $8, 260($4)
        wrdsp   $8
#endif
        break   5

save:
        each    sdc1
        cfc1    $8, $31
        sw      $8, 256($4)
#ifdef __mips_dspr2
        rddsp   $8
        sw      $8, 260($4)
#endif
        break   5
