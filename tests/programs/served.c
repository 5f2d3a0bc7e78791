/*
 * Shows: a program of any machine under a GDB server: a function that is called a known number of times, and says what it
 * computed.
 *
 * served
 *   calls N   calls probed(0) to probed(N - 1)   -> done calls= sum=
 */
#include "common.h"

static unsigned calls, sum;

NOINLINE void probed(unsigned number)
{
    calls++;
    sum = sum * 31 + number;
}

int main(void)
{
    struct command command;
    say("ready pid=%d", getpid());
    while (hear(&command)) {
        for (word number = 0; number < command.number; number++)
            probed((unsigned)number);
        say("done calls=%u sum=%u", calls, sum);
    }
    return 0;
}
