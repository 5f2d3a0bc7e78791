/*
 * Shows: a probe changes no register, flag, vector register or byte of the red zone.
 *
 *   go N   runs every variant of state.S with N random states -> done calls=N bad= wrong=VARIANT.FIELD args=
 *          args: the six argument registers at all sites but the leaves, each times its own odd number, added up
 * With AVX the same is done with 256-bit registers; `wide` in the first line says whether.
 */
#include "common.h"

struct state {
    word general[15];
    word flags;
    word stack;         /* how far the stack pointer moved */
    unsigned char red[128];
    unsigned char vector[16][32];
};
_Static_assert(offsetof(struct state, flags) == 120 && offsetof(struct state, vector) == 264, "state.S has offsets");

#define VARIANTS(LIST) LIST(nop5) LIST(span) LIST(trap) LIST(pun) LIST(call) LIST(dead)
#define DECLARE(name)                                                                                   \
    void state_##name(const struct state *, struct state *);                                            \
    void state_##name##_wide(const struct state *, struct state *);                                     \
    extern const char site_##name[], site_##name##_wide[];
VARIANTS(DECLARE)
extern const char leaf[], leaf_wide[];

static const struct {
    const char *name;
    void (*run)(const struct state *, struct state *);
    int wide;
} table[] = {
#define ROW(name) { #name, state_##name, 0 }, { #name "_wide", state_##name##_wide, 1 },
    VARIANTS(ROW)
};

/* Carry, parity, adjust, zero, sign, direction, overflow: all that a program can set freely. */
#define FREE_FLAGS 0xcd5ul

static void randomize(struct state *state, word *seed, int wide)
{
    memset(state, 0, sizeof *state);
    for (int i = 0; i < 15; i++)
        state->general[i] = next_random(seed);
    state->flags = (next_random(seed) & FREE_FLAGS) | 0x202;
    for (int i = 0; i < 128; i++)
        state->red[i] = (unsigned char)next_random(seed);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < (wide ? 32 : 16); j++)
            state->vector[i][j] = (unsigned char)next_random(seed);
}

/*
 * A callee's red zone ends eight bytes below its caller's: what the caller left there before the call, nobody keeps.
 */
static const char *difference(const struct state *in, const struct state *out, size_t unkept)
{
    if (memcmp(in->general, out->general, sizeof in->general))
        return "general";
    if ((in->flags ^ out->flags) & (FREE_FLAGS | 0x100))
        return "flags";
    if (out->stack)
        return "stack";
    if (memcmp(in->red + unkept, out->red + unkept, sizeof in->red - unkept))
        return "red";
    return memcmp(in->vector, out->vector, sizeof in->vector) ? "vector" : NULL;
}

static word digest(const struct state *state)
{
    const word *reg = state->general;
    return reg[5] + 3 * reg[4] + 5 * reg[3] + 7 * reg[2] + 9 * reg[7] + 11 * reg[8]; /* rdi rsi rdx rcx r8 r9 */
}

int main(void)
{
    int wide = __builtin_cpu_supports("avx");
#define SHOW(name) printf(" site_%s=%p site_%s_wide=%p", #name, (const void *)site_##name, #name, (const void *)site_##name##_wide);
    printf("ready pid=%d wide=%d leaf=%p leaf_wide=%p", getpid(), wide, (const void *)leaf, (const void *)leaf_wide);
    VARIANTS(SHOW)
    say("%s", "");
    struct command command;
    static struct state in, out;
    while (hear(&command)) {
        word bad = 0, args = 0, seed = 2463534242ul;
        char wrong[64] = "none";
        for (word n = 0; n < command.number; n++)
            for (size_t row = 0; row < sizeof table / sizeof *table; row++) {
                if (table[row].wide && !wide)
                    continue;
                randomize(&in, &seed, table[row].wide);
                memset(&out, 0, sizeof out);
                table[row].run(&in, &out);
                args += digest(&in);
                const char *field = difference(&in, &out, strncmp(table[row].name, "call", 4) ? 0 : 8);
                if (field) {
                    bad++;
                    snprintf(wrong, sizeof wrong, "%s.%s", table[row].name, field);
                }
            }
        say("done calls=%lu bad=%lu wrong=%s args=%lu", command.number, bad, wrong, args);
    }
    return 0;
}
