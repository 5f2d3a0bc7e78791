/*
 * Shows: calls of an ifunc, through the slot that the loader filled.
 *
 *   calls N   calls chosen N times -> done calls= bad=
 */
#include "common.h"

int chosen(int x);

int main(void)
{
    say("ready pid=%d", getpid());
    struct command command;
    while (hear(&command)) {
        word bad = 0;
        for (word i = 0; i < command.number; i++)
            bad += chosen((int)i) != (int)i + 2;
        say("done calls=%lu bad=%lu", command.number, bad);
    }
    return 0;
}
