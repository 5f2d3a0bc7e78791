/* Functions to be probed at their entry, and for each a copy, NAME_stub, that is "probed" at build time by hand: its
 * first instructions are replaced by a jump to a stub that counts, runs them and jumps back. That is the floor for
 * any probe that counts by a jump in a program of one thread: nothing is locked. Flags are dead at a function's entry, so the
 * stub saves nothing.
 *
 * Further copies of `lea` do more or less in their stub, so that the parts of a cost show: NAME_jump only jumps there
 * and back, NAME_locked counts by a locked addition, as several threads must, NAME_time stores `rdtsc`, NAME_record counts and
 * writes a record as xol does, in a ring, but without the time, NAME_event with it, NAME_event_alone without a lock.
 *
 * All compute rdi + rsi (+ 8 for `lea`) in rax. What matters is the first instruction:
 *   lea    4 bytes; the kernel's uprobe must single-step it out of line
 *   push   the usual prologue; the kernel emulates `push`
 *   nop    one byte; the kernel emulates it
 *   nop5   five bytes; newer kernels replace it by a call into a trampoline
 *   live   is probed in its middle, where flags and registers are alive
 */

        .macro  function name
        .text
        .balign 64
        .globl  \name
        .type   \name, @function
\name:
        .endm

        .macro  end name
        .size   \name, . - \name
        .endm

/* The five bytes of `jmp \to`, whatever the distance. */
        .macro  jump to
        .byte   0xe9
        .long   \to - . - 4
        .endm

        .macro  stub name
        .section .text.stubs, "ax", @progbits
        .balign 64
\name\()_by_hand:
        incq    \name\()_hits(%rip)
        .endm

        .macro  counter name
        .bss
        .balign 64
        .globl  \name\()_hits
\name\()_hits:
        .skip   64
        .endm

        function lea
        lea     8(%rdi), %rax
        add     %rsi, %rax
        ret
        end     lea

        function lea_stub
        jump    lea_stub_by_hand
        nop
        nop
lea_stub_back:
        ret
        end     lea_stub

        stub    lea_stub
        lea     8(%rdi), %rax
        add     %rsi, %rax
        jump    lea_stub_back
        counter lea_stub

        function push
        push    %rbp
        mov     %rsp, %rbp
        lea     (%rdi,%rsi), %rax
        pop     %rbp
        ret
        end     push

        function push_stub
        jump    push_stub_by_hand
        nop
        nop
        nop
push_stub_back:
        pop     %rbp
        ret
        end     push_stub

        stub    push_stub
        push    %rbp
        mov     %rsp, %rbp
        lea     (%rdi,%rsi), %rax
        jump    push_stub_back
        counter push_stub

        function nop
        nop
        lea     (%rdi,%rsi), %rax
        ret
        end     nop

        function nop_stub
        jump    nop_stub_by_hand
nop_stub_back:
        ret
        end     nop_stub

        stub    nop_stub
        lea     (%rdi,%rsi), %rax
        jump    nop_stub_back
        counter nop_stub

        function nop5
        .byte   0x0f, 0x1f, 0x44, 0x00, 0x00
        lea     (%rdi,%rsi), %rax
        ret
        end     nop5

        function nop5_stub
        jump    nop5_stub_by_hand
nop5_stub_back:
        lea     (%rdi,%rsi), %rax
        ret
        end     nop5_stub

        stub    nop5_stub
        jump    nop5_stub_back
        counter nop5_stub

/* Probed at its second instruction, where the carry flag is alive and, as far as a look ahead can tell, every register:
 * what the stub changes it saves. */
        function live
        cmp     %rdi, %rdi
        lea     (%rdi,%rsi), %rax
        adc     $0, %rax
        ret
        end     live

        function live_stub
        cmp     %rdi, %rdi
        jump    live_stub_by_hand
        nop
        nop
        nop
live_stub_back:
        ret
        end     live_stub

        .section .text.stubs, "ax", @progbits
        .balign 64
live_stub_by_hand:
        lea     -128(%rsp), %rsp
        push    %rcx
        mov     live_stub_hits(%rip), %rcx
        lea     1(%rcx), %rcx
        mov     %rcx, live_stub_hits(%rip)
        pop     %rcx
        lea     128(%rsp), %rsp
        lea     (%rdi,%rsi), %rax
        adc     $0, %rax
        jump    live_stub_back
        counter live_stub

/* A copy of `lea` whose stub does what stands between this and `leave`. */
        .macro  enter name
        function \name
        jump    \name\()_by_hand
        nop
        nop
\name\()_back:
        ret
        end     \name
        .section .text.stubs, "ax", @progbits
        .balign 64
\name\()_by_hand:
        .endm

        .macro  leave name
        lea     8(%rdi), %rax
        add     %rsi, %rax
        jump    \name\()_back
        .endm

/* Ten words in a ring of 32768 records: state, time, probe, thread, six arguments. Registers that are dead at the entry
 * of a function with two arguments are not saved. */
        .macro  record with_time, locked
        .if     \locked
        lock incq ring_hits(%rip)
        mov     $1, %r10d
        lock xaddq %r10, ring_head(%rip)
        .else
        incq    ring_hits(%rip)
        mov     ring_head(%rip), %r10
        lea     1(%r10), %rax
        mov     %rax, ring_head(%rip)
        .endif
        mov     %r10d, %eax
        and     $32767, %eax
        imul    $80, %eax, %eax
        lea     ring(%rip), %r11
        add     %rax, %r11
        movq    $1, 16(%r11)
        mov     %fs:0, %rax
        mov     %rax, 24(%r11)
        shl     $2, %r10
        inc     %r10
        mov     %r10, (%r11)
        mov     %rdi, 32(%r11)
        mov     %rsi, 40(%r11)
        mov     %rdx, 48(%r11)
        mov     %rcx, 56(%r11)
        mov     %r8, 64(%r11)
        mov     %r9, 72(%r11)
        .if     \with_time
        rdtsc
        mov     %eax, 8(%r11)
        mov     %edx, 12(%r11)
        .endif
        inc     %r10
        mov     %r10, (%r11)
        .endm

        enter   lea_jump
        leave   lea_jump

        enter   lea_locked
        lock incq ring_hits(%rip)
        leave   lea_locked

        enter   lea_time
        rdtsc
        mov     %eax, time(%rip)
        mov     %edx, 4 + time(%rip)
        leave   lea_time

        enter   lea_record
        record  0, 1
        leave   lea_record

        enter   lea_event
        record  1, 1
        leave   lea_event

        enter   lea_event_alone
        record  1, 0
        leave   lea_event_alone

        .bss
        .balign 4096
        .globl  ring
ring:   .skip   32768 * 80
ring_head:
        .skip   64
ring_hits:
        .skip   64
time:   .skip   64

        .section .note.GNU-stack, "", @progbits
