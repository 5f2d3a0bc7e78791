/*
 * Shows: no room within reach. Every gap from 4 GiB below to 4 GiB above the program's text is taken.
 *
 *   calls N    calls victim N times  -> done calls= bad=
 */
#include "common.h"
#include <sys/mman.h>

#define REACH (4ul << 30)

NOINLINE int victim(int x)
{
    __asm__ volatile("" ::: "memory");
    return x * 3 + 1;
}

/* Maps what is free between the mappings of /proc/self/maps; the kernel keeps no memory for it. */
static void fill(word from, word to)
{
    char line[512];
    word end = from, next, last;
    int filled = 1;
    FILE *maps = fopen("/proc/self/maps", "r");
    word gaps[256][2];
    int count = 0;
    while (fgets(line, sizeof line, maps) && sscanf(line, "%lx-%lx", &next, &last) == 2) {
        if (next > end && end < to && count < 256) {
            gaps[count][0] = end;
            gaps[count++][1] = next < to ? next : to;
        }
        end = last > end ? last : end;
    }
    fclose(maps);
    for (int i = 0; i < count; i++)
        filled &= mmap((void *)gaps[i][0], gaps[i][1] - gaps[i][0], PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED;
    if (!filled)
        exit(3);
}

int main(void)
{
    free(malloc(4096)); /* the heap has its first pages before all room is taken */
    word text = (word)main & -4096ul;
    fill(text > REACH ? text - REACH : 0x10000, text + REACH);
    say("ready pid=%d victim=%p", getpid(), (void *)victim);
    struct command command;
    while (hear(&command)) {
        word bad = 0;
        for (word i = 0; i < command.number; i++)
            bad += victim((int)i) != (int)i * 3 + 1;
        say("done calls=%lu bad=%lu", command.number, bad);
    }
    return 0;
}
