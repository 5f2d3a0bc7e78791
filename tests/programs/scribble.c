/*
 * Shows: a program that writes over xol's shared state harms its own results, nothing else.
 *
 *   scribble N   calls work and neighbour N times and writes junk into the state after each  -> done calls= words= bad=
 */
#include "work.h"
#include "state_of_xol.h"

int main(void)
{
    struct command command;
    say("ready pid=%d work=%p neighbour=%p", getpid(), (void *)work, (void *)neighbour);
    while (hear(&command)) {
        struct shared_state shared = find_shared_state();
        word words = 0;
        long bad = 0;
        for (long i = 0; i < (long)command.number; i++) {
            bad += work(i, 3) != expect_work(i, 3);
            bad += neighbour(i) != expect_neighbour(i);
            if (shared.words)
                words += scribble(&shared, 16);
        }
        say("done calls=%lu words=%lu bad=%ld", command.number, words, bad);
    }
    return 0;
}
