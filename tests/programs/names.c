/*
 * Shows: names that are no plain functions (names.S).
 *
 *   calls N    calls odd_function and odd_sizeless N times each  -> done calls= bad=
 */
#include "common.h"

extern int odd_function(int), odd_sizeless(int);
extern const word odd_object;

int main(void)
{
    say("ready pid=%d odd_function=%p odd_sizeless=%p", getpid(), (void *)odd_function, (void *)odd_sizeless);
    struct command command;
    while (hear(&command)) {
        word bad = odd_object != 0x0102030405060708;
        for (word i = 0; i < command.number; i++)
            bad += (odd_function((int)i) != (int)i + 2) + (odd_sizeless((int)i) != (int)i + 7);
        say("done calls=%lu bad=%lu", command.number, bad);
    }
    return 0;
}
