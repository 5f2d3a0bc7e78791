# What instructions run in: pages for code, a page for data, routines for registers that the stub has one by one only, and what
# work.c has. Each part ends in a breakpoint; the driver goes on elsewhere.

        .equ    CODE, 128 << 20
        .equ    DATA, 4096

        .globl  _start
_start:
        aghi    %r15, -512
        lgfi    %r0, CODE
        lghi    %r1, 7                  # PROT_READ | PROT_WRITE | PROT_EXEC
        brasl   %r14, map
        lgr     %r6, %r2
        lghi    %r0, DATA
        lghi    %r1, 3                  # PROT_READ | PROT_WRITE
        brasl   %r14, map
        lgr     %r7, %r2
        larl    %r8, load
        larl    %r9, save
        larl    %r10, __start_probed
        larl    %r11, __stop_probed
        larl    %r12, work
        larl    %r13, done
        .short  1

done:
        .short  1

# Its arguments are in memory.
map:
        xc      160(48, %r15), 160(%r15)
        stg     %r0, 168(%r15)
        stg     %r1, 176(%r15)
        mvghi   184(%r15), 0x22         # MAP_PRIVATE | MAP_ANONYMOUS
        mvghi   192(%r15), -1
        la      %r2, 160(%r15)
        svc     90                      # mmap
        br      %r14

# From r2 on: 32 vectors, whose halves are the registers of floating point; 16 access registers; FPC.
load:
        vlm     %v0, %v15, 0(%r2)
        vlm     %v16, %v31, 256(%r2)
        lam     %a0, %a15, 512(%r2)
        lfpc    576(%r2)
        .short  1

save:
        vstm    %v0, %v15, 0(%r2)
        vstm    %v16, %v31, 256(%r2)
        stam    %a0, %a15, 512(%r2)
        stfpc   576(%r2)
        .short  1
