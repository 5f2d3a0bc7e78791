/*
 * Linked to another program: takes all but MAPPINGS_LEFT of the mappings that the kernel allows a process, before that
 * begins. Where that would be very many it says `missing` instead of the other's `ready`.
 */
#include "common.h"
#include <sys/mman.h>

#define PAGE 4096ul
#define MOST 200000ul

static word read_number(const char *path)
{
    word number = 0;
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%lu", &number) != 1)
        number = 0;
    if (file)
        fclose(file);
    return number;
}

static word mappings(void)
{
    word lines = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    for (int byte; (byte = fgetc(maps)) != EOF;)
        lines += byte == '\n';
    fclose(maps);
    return lines;
}

__attribute__((constructor)) static void take(void)
{
    word most = read_number("/proc/sys/vm/max_map_count"), used = mappings();
    if (!most || most > MOST || used + MAPPINGS_LEFT > most) {
        say("missing most=%lu", most);
        _exit(0);
    }
    /* Every second page of a mapping gets another protection: two mappings more each. */
    word pairs = (most - MAPPINGS_LEFT - used) / 2;
    char *start = mmap(NULL, 2 * pairs * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (word pair = 0; start != MAP_FAILED && pair < pairs; pair++)
        if (mprotect(start + 2 * pair * PAGE, PAGE, PROT_READ))
            break;
}
