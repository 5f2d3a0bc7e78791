/*
 * Shows: text that is not simply a file's private pages: what may be probed there and what must be refused.
 *
 * mappings MODE
 *   shared     the page of `victim` is a shared mapping of the file
 *   writable   it is writable
 *   anonymous  it is a copy in anonymous memory, as in programs that move their text to large pages
 *   huge       the same in hugetlb pages (compile with -DREGION=0x200000)
 *   patched    the program has changed an instruction of `victim` itself
 *   sealed     it is sealed by mseal(2)
 * Where the kernel does not offer that, it says `missing` instead of `ready`.
 *   calls N    calls victim N times  -> done calls= bad=
 */
#include "common.h"
#include <fcntl.h>
#include <sys/mman.h>

#ifndef REGION
#define REGION 0x1000
#endif
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

/* `victim` has a region of its own, so that nothing else is replaced with it. */
__asm__(".pushsection .text.victim, \"ax\", @progbits\n"
        ".balign " TEXT(REGION) "\n"
        ".globl victim\n"
        ".type victim, @function\n"
        "victim:\n"
        "    lea 1(%rdi), %eax\n"
        "    add $41, %eax\n"
        "    ret\n"
        ".size victim, . - victim\n"
        ".balign " TEXT(REGION) ", 0xcc\n"
        ".popsection\n");
extern int victim(int);

static int increment = 42; /* what victim adds */

static void missing(const char *what)
{
    say("missing what=%s errno=%d", what, errno);
    exit(0);
}

/* Puts the region's bytes into memory of another kind at the same place. */
static void replace(int flags, int protection)
{
    static unsigned char copy[REGION];
    memcpy(copy, (void *)victim, REGION);
    if (mmap((void *)victim, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0)
        == MAP_FAILED)
        missing("mmap");
    memcpy((void *)victim, copy, REGION);
    if (mprotect((void *)victim, REGION, protection))
        missing("mprotect");
}

/* Where the page of `victim` is in the file: as /proc/self/maps says. */
static long file_offset(void)
{
    char line[512];
    unsigned long start, end, offset;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 && (word)victim >= start && (word)victim < end) {
            fclose(maps);
            return (long)(offset + ((word)victim - start));
        }
    exit(3);
}

static void prepare(const char *mode)
{
    if (strcmp(mode, "shared") == 0) {
        int file = open("/proc/self/exe", O_RDONLY);
        if (mmap((void *)victim, REGION, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, file, file_offset()) == MAP_FAILED)
            missing("mmap");
        close(file);
    } else if (strcmp(mode, "writable") == 0) {
        if (mprotect((void *)victim, REGION, PROT_READ | PROT_WRITE | PROT_EXEC))
            missing("mprotect");
    } else if (strcmp(mode, "anonymous") == 0) {
        replace(0, PROT_READ | PROT_EXEC);
    } else if (strcmp(mode, "huge") == 0) {
        /* Asked for elsewhere first: a failure at the fixed place would have unmapped the text. */
        void *elsewhere = mmap(NULL, REGION, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
        if (elsewhere == MAP_FAILED)
            missing("MAP_HUGETLB");
        munmap(elsewhere, REGION);
        replace(MAP_HUGETLB, PROT_READ | PROT_EXEC);
    } else if (strcmp(mode, "patched") == 0) {
        if (mprotect((void *)victim, REGION, PROT_READ | PROT_WRITE))
            missing("mprotect");
        ((unsigned char *)victim)[5] = 43; /* the operand of `add` */
        increment = 44;
        mprotect((void *)victim, REGION, PROT_READ | PROT_EXEC);
    } else if (strcmp(mode, "sealed") == 0) {
        if (syscall(462 /* mseal, since Linux 6.10 */, victim, REGION, 0))
            missing("mseal");
    }
}

int main(int argc, char **argv)
{
    prepare(argc > 1 ? argv[1] : "plain");
    say("ready pid=%d victim=%p", getpid(), (void *)victim);
    struct command command;
    while (hear(&command)) {
        word bad = 0;
        for (word i = 0; i < command.number; i++)
            bad += victim((int)i) != (int)i + increment;
        say("done calls=%lu bad=%lu", command.number, bad);
    }
    return 0;
}
