/*
 * A library: `chosen` is an ifunc. Its resolver picks the second of two implementations, which have no name outside.
 */
static int first(int x) { return x + 1; }
static __attribute__((noinline)) int second(int x)
{
    __asm__("");
    return x + 2;
}

static int (*choose(void))(int)
{
    volatile int which = 2; /* decided when the program runs */
    return which == 2 ? second : first;
}

int chosen(int x) __attribute__((ifunc("choose")));
