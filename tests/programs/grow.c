/*
 * Shows: a program may grow after it was probed: its heap by 1 GiB, its stack by 6 MiB.
 *
 *   grow   -> done heap= depth= bad=
 */
#include "work.h"

static long deep(long bytes)
{
    volatile char frame[4096];
    for (size_t i = 0; i < sizeof frame; i += 512)
        frame[i] = (char)bytes;
    return bytes <= 0 ? work(1, 2) : deep(bytes - (long)sizeof frame) + (frame[512] != (char)bytes);
}

int main(void)
{
    struct command command;
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command)) {
        long step = 64L << 20, heap = 0, bad = 0;
        for (int i = 0; i < 16; i++) {
            char *at = sbrk(step);
            if (at == (char *)-1)
                break;
            for (long page = 0; page < step; page += 1 << 20)
                at[page] = 1;
            heap += step;
        }
        bad += deep(6L << 20) != expect_work(1, 2);
        say("done heap=%ld bad=%ld", heap >> 20, bad);
    }
    return 0;
}
