// Shows: C++ names. `shape::area` has two overloads, `twice<long>` is a template, `throws` is left by an exception that
// passes through the probed `passes`.
//
//   calls N  -> done area_int=N area_two=2N twice=3N caught=N bad=
#include "common.h"

namespace shape {
NOINLINE long area(int side) { __asm__(""); return (long)side * side; }
NOINLINE long area(long width, long height) { __asm__(""); return width * height; }
}
template <class T> NOINLINE T twice(T value) { __asm__(""); return value + value; }
template long twice<long>(long);

struct Tracked {
    long *cell;
    ~Tracked() { ++*cell; }
};

NOINLINE void throws(long value) { throw value; }
NOINLINE long passes(long value, long *destroyed)
{
    Tracked tracked = { destroyed };
    throws(value);
    return *destroyed;
}

int main()
{
    say("ready pid=%d", getpid());
    command command;
    while (hear(&command)) {
        long area_int = 0, area_two = 0, twices = 0, caught = 0, destroyed = 0, bad = 0;
        for (long i = 0; i < (long)command.number; i++) {
            bad += shape::area((int)(i % 1000)) != (i % 1000) * (i % 1000);
            area_int++;
            for (int j = 0; j < 2; j++, area_two++)
                bad += shape::area(i, j + 2) != i * (j + 2);
            for (int j = 0; j < 3; j++, twices++)
                bad += twice(i) != 2 * i;
            try {
                passes(i, &destroyed);
            } catch (long value) {
                bad += value != i;
                caught++;
            }
        }
        bad += destroyed != caught;
        say("done area_int=%ld area_two=%ld twice=%ld caught=%ld bad=%ld", area_int, area_two, twices, caught, bad);
    }
}
