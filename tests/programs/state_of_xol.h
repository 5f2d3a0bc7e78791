/* The state that xol shares with the program it probes, for programs that write over it. */
#ifndef XOL_TESTS_STATE_OF_XOL_H
#define XOL_TESTS_STATE_OF_XOL_H
#include "common.h"

struct shared_state {
    volatile word *words;
    word count;
    uint64_t random;
};

/* Where it is now; nothing if there is none. */
MAYBE_UNUSED static struct shared_state find_shared_state(void)
{
    struct shared_state state = { 0 };
    word start, end;
    char line[512], permissions[8];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "memfd:xol") && sscanf(line, "%lx-%lx %7s", &start, &end, permissions) == 3
            && permissions[1] == 'w')
            state = (struct shared_state){ (volatile word *)start, (end - start) / sizeof(word), 88172645463325252ul };
    if (maps)
        fclose(maps);
    return state;
}

/* Writes junk over so many of its words, every other one a zero. */
MAYBE_UNUSED static word scribble(struct shared_state *state, word count)
{
    for (word n = 0; n < count; n++) {
        word random = next_random(&state->random);
        state->words[random % state->count] = random * (random & 1);
    }
    return count;
}

#endif
