/*
 * A library: `plug_add` is called by its users, `plug_inner` by plug_add, and `plug_start`, the constructor, calls
 * plug_inner three times before main or dlopen returns. With BULK defined there are as many short runs of instructions more,
 * which nobody executes.
 */
#include "common.h"

NOINLINE long plug_inner(long a) { __asm__(""); return a * 3; }
NOINLINE long plug_add(long a, long b) { return plug_inner(a) + b; }
long plug_started;
__attribute__((constructor)) static void plug_start(void)
{
    for (long i = 0; i < 3; i++)
        plug_started += plug_inner(i);
}

#ifdef BULK
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
__asm__(".globl plug_bulk\n"
        ".type plug_bulk, @function\n"
        "plug_bulk:\n"
        ".rept " TEXT(BULK) "\n"
        "    test %edi, %edi\n"
        "    jz 1f\n"
        "    push %rbx\n"
        "    lea 3(%rdi), %ebx\n"
        "    pop %rbx\n"
        "1:  add $0x11223344, %eax\n"
        ".endr\n"
        "    ret\n"
        ".size plug_bulk, . - plug_bulk\n");
#endif
