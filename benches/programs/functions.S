/* Functions to be probed at their entry, and for each a copy, NAME_stub, that is "probed" at build time by hand: its
 * first instructions are replaced by a jump to a stub that counts, runs them and jumps back. That is the floor for
 * any probe that counts by a jump. Flags are dead at a function's entry, so the stub saves nothing.
 *
 * All compute rdi + rsi (+ 8 for `lea`) in rax. What matters is the first instruction:
 *   lea    4 bytes; the kernel's uprobe must single-step it out of line
 *   push   the usual prologue; the kernel emulates `push`
 *   nop    one byte; the kernel emulates it
 *   nop5   five bytes; newer kernels replace it by a call into a trampoline
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
        lock incq \name\()_hits(%rip)
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

        .section .note.GNU-stack, "", @progbits
