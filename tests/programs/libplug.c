/*
 * A library: `plug_add` is called by its users, `plug_inner` by plug_add, and `plug_start`, the constructor, calls
 * plug_inner three times before main or dlopen returns.
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
