/*
 * Shows: a program that writes over xol's shared state harms its own results, nothing else.
 *
 *   scribble N   calls work N times and writes junk into the state after each  -> done calls= words= bad=
 */
#include "work.h"

int main(void)
{
    struct command command;
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command)) {
        unsigned long start = 0, end = 0, random = 88172645463325252ul, words = 0;
        char line[512], permissions[8];
        FILE *maps = fopen("/proc/self/maps", "r");
        long bad = 0;
        while (fgets(line, sizeof line, maps))
            if (strstr(line, "memfd:xol") && sscanf(line, "%lx-%lx %7s", &start, &end, permissions) == 3
                && permissions[1] == 'w')
                break;
            else
                start = end = 0;
        fclose(maps);
        for (word i = 0; i < command.number; i++) {
            bad += work((long)i, 3) != expect_work((long)i, 3);
            for (int n = 0; start && n < 16; n++, words++) {
                random ^= random << 13, random ^= random >> 7, random ^= random << 17;
                ((volatile unsigned long *)start)[random % ((end - start) / 8)] = random * (random & 1);
            }
        }
        say("done calls=%lu words=%lu bad=%ld", command.number, words, bad);
    }
    return 0;
}
