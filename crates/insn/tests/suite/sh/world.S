! What instructions run in: pages for code, a page for data, routines for the registers of floating point, and what work.c has. The
! emulator makes a system call of each breakpoint instruction: the driver sets breakpoints at the ends of the parts, one instruction
! before what is behind them, and at the first the program stops by a signal.

        .equ    CODE, 128 << 20
        .equ    DATA, 4096

        .globl  _start
        .align  2
_start:
        mov.l   code, r5
        mov     #7, r6                  ! PROT_READ | PROT_WRITE | PROT_EXEC
        bsr     map
         nop
        mov     r0, r8
        mov.l   data, r5
        mov     #3, r6                  ! PROT_READ | PROT_WRITE
        bsr     map
         nop
        mov     r0, r9
        mov     #20, r3                 ! getpid
        trapa   #0x10
        mov     r0, r4
        mov     r8, r6
        mov     r9, r7
        mova    load, r0
        mov     r0, r8
        mov.l   at_save, r9
        mov.l   at_start, r10
        mov.l   at_stop, r11
        mov.l   at_work, r12
        mov.l   at_done, r13
        mov     #37, r3                 ! kill
        mov     #5, r5                  ! SIGTRAP
        trapa   #0x12
        nop

map:
        mov     #0, r4
        mov     #0x22, r7               ! MAP_PRIVATE | MAP_ANONYMOUS
        mov     #-1, r0
        mov     #0, r1
        mov.w   mmap2, r3
        trapa   #0x16
        rts
         nop
mmap2:  .short  192

        .align  2
code:   .long   CODE
data:   .long   DATA
at_save: .long  save
at_start: .long __start_probed
at_stop: .long  __stop_probed
at_work: .long  work
at_done: .long  done

! From r4 on: fr0 to fr15 of both banks, fpul, fpscr.
        .align  2
load:
        mov     r4, r1
        mov     #0, r0
        lds     r0, fpscr
        .rept   2
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        fmov.s  @r1+, fr\n
        .endr
        frchg
        .endr
        lds.l   @r1+, fpul
        lds.l   @r1+, fpscr
        nop
save:
        sts     fpul, r2
        sts     fpscr, r3
        mov     r4, r1
        mov     #0, r0
        lds     r0, fpscr
        .rept   2
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        fmov.s  fr\n, @r1
        add     #4, r1
        .endr
        frchg
        .endr
        mov.l   r2, @r1
        add     #4, r1
        mov.l   r3, @r1
        nop
done:
        nop
