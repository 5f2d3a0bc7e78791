! What instructions run in: pages for code, one for data, routines for the registers of floating point, and what work.c has. The
! emulator ends at each breakpoint instruction: the driver sets breakpoints at the ends of the parts, one instruction before what is
! behind them, and at the first the program stops by a signal. Three windows are below the one in which cases begin, so that none
! is spilled or filled.

        .equ    CODE, 128 << 20
        .equ    DATA, 8192

#ifdef __arch64__
        .register %g2, #scratch
        .register %g3, #scratch
        .equ    KERNEL, 0x6d
        .equ    FRAME, 192
        .equ    FLOATS, 62
        .macro  address of, into
        setx    \of, %g1, \into
        .endm
#else
        .equ    KERNEL, 0x10
        .equ    FRAME, 96
        .equ    FLOATS, 30
        .macro  address of, into
        set     \of, \into
        .endm
#endif

        .globl  _start
_start:
        save    %sp, -FRAME, %sp
        save    %sp, -FRAME, %sp
        save    %sp, -FRAME, %sp
        set     CODE, %o1
        call    map
         mov    7, %o2                  ! PROT_READ | PROT_WRITE | PROT_EXEC
        mov     %o0, %l0
        set     DATA, %o1
        call    map
         mov    3, %o2                  ! PROT_READ | PROT_WRITE
        mov     %o0, %l1
        address load, %l2
        address save, %l3
        address __start_probed, %l4
        address __stop_probed, %l5
        address work, %l6
        address done, %l7
        address windows, %i0
        mov     20, %g1                 ! getpid
        ta      KERNEL
        mov     37, %g1                 ! kill
        mov     5, %o1                  ! SIGTRAP
        ta      KERNEL
        nop

map:
        mov     0, %o0
        mov     0x22, %o3               ! MAP_PRIVATE | MAP_ANONYMOUS
        mov     -1, %o4
        mov     0, %o5
        mov     71, %g1                 ! mmap
        ta      KERNEL
        retl
         nop

! Stepped to change the window, and back.
windows:
        save    %g0, %g0, %g0
        restore

! From o0 on: the registers of floating point.
        .macro  each op
        .set    n, 0
        .rept   FLOATS / 2 + 1
        \op
        .set    n, n + 2
        .endr
        .endm

        .macro  load_one
        .altmacro
        load_nth %n
        .noaltmacro
        .endm
        .macro  load_nth n
        ldd     [%o0 + 4 * n], %f&n
        .endm
        .macro  save_one
        .altmacro
        save_nth %n
        .noaltmacro
        .endm
        .macro  save_nth n
        std     %f&n, [%o0 + 4 * n]
        .endm

load:
        fmuls   %f0, %f0, %f0           ! the emulator forgets what exceptions there were
        each    load_one
        nop
save:
        each    save_one
        nop
done:
        nop
