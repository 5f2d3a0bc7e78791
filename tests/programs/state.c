/*
 * Shows: a probe changes no register, flag, vector register or byte of the red zone.
 *
 *   go N   runs every variant of state.S with N random states -> done calls=N bad= wrong=VARIANT.FIELD args=
 *          args: the six arguments at all sites but the leaves, each times its own odd number, added up
 * With AVX the same is done with 256-bit registers; `wide` in the first line says whether.
 */
#include "common.h"

#ifdef __i386__
enum { GENERAL = 7, RED = 0, VECTORS = 8, FLAGS_AT = 28, VECTOR_AT = 36 };
#else
enum { GENERAL = 15, RED = 128, VECTORS = 16, FLAGS_AT = 120, VECTOR_AT = 264 };
#endif

struct state {
    word general[GENERAL];
    word flags;
    word stack;         /* how far the stack pointer moved */
    unsigned char red[RED];
    unsigned char vector[VECTORS][32];
};
_Static_assert(offsetof(struct state, flags) == FLAGS_AT && offsetof(struct state, vector) == VECTOR_AT, "state.S has offsets");

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

static void randomize(struct state *state, uint64_t *seed, int wide)
{
    memset(state, 0, sizeof *state);
    for (int i = 0; i < GENERAL; i++)
        state->general[i] = next_random(seed);
    state->flags = (next_random(seed) & FREE_FLAGS) | 0x202;
    for (int i = 0; i < RED; i++)
        state->red[i] = (unsigned char)next_random(seed);
    for (int i = 0; i < VECTORS; i++)
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
    if (RED && memcmp(in->red + unkept, out->red + unkept, RED - unkept))
        return "red";
    return memcmp(in->vector, out->vector, sizeof in->vector) ? "vector" : NULL;
}

static uint64_t digest(const struct state *state)
{
    const word *reg = state->general;
#ifdef __i386__
    uint64_t fifth = reg[1], sixth = reg[0]; /* edi esi edx ecx ebx eax, which state.S has on the stack */
#else
    uint64_t fifth = reg[7], sixth = reg[8]; /* rdi rsi rdx rcx r8 r9 */
#endif
    return reg[5] + 3ull * reg[4] + 5ull * reg[3] + 7ull * reg[2] + 9 * fifth + 11 * sixth;
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
        word bad = 0;
        uint64_t args = 0, seed = 2463534242u;
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
        say("done calls=%lu bad=%lu wrong=%s args=%llu", command.number, bad, wrong, (unsigned long long)args);
    }
    return 0;
}
