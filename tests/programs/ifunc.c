/*
 * Shows: functions whose implementation is chosen when the program is linked at run time (STT_GNU_IFUNC).
 *
 *   calls N   calls pick, memcpy and strlen N times each -> done calls= bad=
 * The program's own line protocol calls memcpy and strlen too: as often for every N of as many digits.
 */
#include "common.h"

NOINLINE long pick_slow(long a) { __asm__(""); return a + 1; }
NOINLINE long pick_fast(long a) { __asm__(""); return a + 2; }

static long (*choose(void))(long)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse2") ? pick_fast : pick_slow;
}

long pick(long a) __attribute__((ifunc("choose")));

/* Called through the relocated slots, not inlined by the compiler. */
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static size_t (*volatile length)(const char *) = strlen;

int main(void)
{
    char from[64] = "some bytes to copy", to[64];
    struct command command;
    say("ready pid=%d pick_fast=%p pick_slow=%p", getpid(), (void *)pick_fast, (void *)pick_slow);
    while (hear(&command)) {
        long bad = 0;
        for (long i = 0; i < (long)command.number; i++) {
            bad += pick(i) != i + 2;
            copy(to, from, sizeof from);
            bad += length(to) != 18;
        }
        say("done calls=%05lu bad=%ld", command.number, bad);
    }
    return 0;
}
