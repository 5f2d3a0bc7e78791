@ What instructions run in: pages for code, a page for data, routines for the registers of floating point, and what work.c has.
@ Each part ends in a breakpoint; the driver goes on elsewhere.

        .syntax unified
        .arch   armv7-a
        .fpu    neon
        .equ    CODE, 128 << 20
        .equ    DATA, 4096

        .macro  breakpoint
        .inst   0xe7f001f0
        .endm

        .globl  _start
        .arm
_start:
        ldr     r1, =CODE
        mov     r2, #7                  @ PROT_READ | PROT_WRITE | PROT_EXEC
        bl      map
        mov     r8, r0
        ldr     r1, =DATA
        mov     r2, #3                  @ PROT_READ | PROT_WRITE
        bl      map
        mov     r5, r0
        mov     r4, r8
        adr     r6, load
        adr     r7, save
        ldr     r8, =__start_probed
        ldr     r9, =__stop_probed
        ldr     r10, =work
        adr     r11, done
        breakpoint

done:
        breakpoint

map:
        mov     r0, #0
        mov     r3, #0x22               @ MAP_PRIVATE | MAP_ANONYMOUS
        mvn     r4, #0
        mov     r5, #0
        mov     r7, #192                @ mmap2
        svc     #0
        bx      lr

@ From r0 on: d0 to d31.
load:
        vldmia  r0!, {d0-d15}
        vldmia  r0!, {d16-d31}
        breakpoint

save:
        vstmia  r0!, {d0-d15}
        vstmia  r0!, {d16-d31}
        breakpoint
