/* A host for a generated library with many functions: loads argv[1], which must define `table` and `table_len`.
 * On stdin, one command a line, one line back:
 *
 *   changed     -> how many functions begin with other bytes than at the start
 *   call N      -> calls each function N times; the sum of all results
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t function(uint64_t);

int main(int argc, char **argv)
{
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    function **table = library ? (function **)dlsym(library, "table") : NULL;
    const uint64_t *len = library ? (const uint64_t *)dlsym(library, "table_len") : NULL;
    if (!table || !len) {
        fprintf(stderr, "many: %s\n", argc == 2 ? dlerror() : "usage: many LIBRARY");
        return 1;
    }
    uint64_t *pristine = calloc(*len, sizeof *pristine);
    if (!pristine)
        return 1;
    for (uint64_t i = 0; i < *len; i++)
        memcpy(&pristine[i], (const void *)table[i], sizeof *pristine);

    char line[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        unsigned long long rounds;
        if (strncmp(line, "changed", 7) == 0) {
            unsigned long long changed = 0;
            for (uint64_t i = 0; i < *len; i++)
                changed += memcmp(&pristine[i], (const void *)table[i], sizeof *pristine) != 0;
            printf("%llu\n", changed);
        } else if (sscanf(line, "call %llu", &rounds) == 1) {
            uint64_t sum = 0;
            for (uint64_t round = 0; round < rounds; round++)
                for (uint64_t i = 0; i < *len; i++)
                    sum += table[i](i + round);
            printf("%llu\n", (unsigned long long)sum);
        } else {
            printf("no such command\n");
        }
    }
    return 0;
}
