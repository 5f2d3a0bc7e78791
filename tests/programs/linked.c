/*
 * Shows: a probe in a library that the program is linked with.
 *
 *   calls N   calls plug_add N times -> done plug_add=N bad=
 */
#include "common.h"

long plug_add(long a, long b);
extern long plug_started;

int main(void)
{
    say("ready pid=%d started=%ld plug_add=%p", getpid(), plug_started, (void *)plug_add);
    struct command command;
    while (hear(&command)) {
        word bad = plug_started != 9;
        for (long i = 0; i < (long)command.number; i++)
            bad += plug_add(i, 4) != 3 * i + 4;
        say("done plug_add=%lu bad=%lu", command.number, bad);
    }
    return 0;
}
