/*
 * Shows: constants in the middle of the text, under labels without a type (constants.S).
 *
 *   calls N    calls mix N times  -> done calls= bad=
 */
#include "common.h"

extern unsigned mix(unsigned);
extern const unsigned mix_key[], mix_table[];

int main(void)
{
    say("ready pid=%d mix=%p mix_key=%p mix_table=%p", getpid(), (void *)mix, (void *)mix_key, (void *)mix_table);
    struct command command;
    while (hear(&command)) {
        word bad = 0;
        for (word i = 0; i < command.number; i++)
            bad += mix((unsigned)i) != (unsigned)i + 0x5a827999 + 0x6ed9eba1;
        say("done calls=%lu bad=%lu", command.number, bad);
    }
    return 0;
}
