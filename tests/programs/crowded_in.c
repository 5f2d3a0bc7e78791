/*
 * Shows: a short instruction among others that are reached, without padding near it.
 *
 *   go N   calls crowded_in(0), (1), ... (7), (0) ... N times -> done calls=N bad=
 */
#include "common.h"

#ifdef __i386__
__attribute__((regparm(1)))
#endif
long crowded_in(long n);
extern const char neighbour[];

int main(void)
{
    say("ready pid=%d site=%p neighbour=%p", getpid(), (void *)crowded_in, (const void *)neighbour);
    struct command command;
    while (hear(&command)) {
        word bad = 0;
        for (word n = 0; n < command.number; n++)
            bad += crowded_in((long)(n & 7)) != (long)(n & 7) * 0x12345;
        say("done calls=%lu bad=%lu", command.number, bad);
    }
    return 0;
}
