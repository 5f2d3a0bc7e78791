// Shows: exceptions that unwind through probed frames, with handlers and cleanups on the way.
//
//   calls N   -> done inner= outer= caught= cleaned= bad=
#include "common.h"

static word inner_calls, outer_calls, cleaned;

struct Cleanup {
    ~Cleanup() { cleaned++; }
};

extern "C" {
NOINLINE long inner(long value)
{
    inner_calls++;
    if (value % 3 == 0)
        throw value;
    return value * 2;
}

NOINLINE long middle(long value)
{
    Cleanup cleanup;
    return inner(value) + 1;
}

NOINLINE long outer(long value)
{
    outer_calls++;
    try {
        return middle(value) + 1;
    } catch (long thrown) {
        return -thrown;
    }
}
}

int main()
{
    struct command command;
    say("ready pid=%d inner=%p middle=%p outer=%p", getpid(), (void *)inner, (void *)middle, (void *)outer);
    while (hear(&command)) {
        word bad = 0, caught = 0;
        inner_calls = outer_calls = cleaned = 0;
        for (long i = 0; i < (long)command.number; i++) {
            long got = outer(i);
            bad += got != (i % 3 ? i * 2 + 2 : -i);
            caught += i % 3 == 0;
        }
        say("done inner=%lu outer=%lu caught=%lu cleaned=%lu bad=%lu", inner_calls, outer_calls, caught, cleaned, bad);
    }
    return 0;
}
