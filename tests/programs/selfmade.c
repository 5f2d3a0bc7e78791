/*
 * Shows: a program that reads and writes its own text.
 *
 *   calls N   calls victim N times                                             -> done calls= bad=
 *   sum       adds up the bytes of victim                                      -> done sum=
 *   change    makes victim add 43 from now on: writes its whole code anew      -> done bad=
 *   debugger  writes a breakpoint over victim's first byte, as a debugger does  -> done bad=
 *   restore   writes the code that it had in the file                          -> done bad=
 */
#include "common.h"
#include <sys/mman.h>

#define PAGE 0x1000

/* A page of its own. */
__asm__(".pushsection .text.victim, \"ax\", @progbits\n"
        ".balign 0x1000\n"
        ".globl victim\n"
        ".type victim, @function\n"
        "victim:\n"
        "    mov $42, %eax\n"
        "    add %edi, %eax\n"
        "    ret\n"
        ".size victim, . - victim\n"
        ".balign 0x1000, 0xcc\n"
        ".popsection\n");
extern int victim(int);

static const unsigned char from_file[] = { 0xb8, 42, 0, 0, 0, 0x01, 0xf8, 0xc3 };

static int write_text(const unsigned char *code, size_t len)
{
    if (mprotect((void *)victim, PAGE, PROT_READ | PROT_WRITE))
        return 1;
    memcpy((void *)victim, code, len);
    return mprotect((void *)victim, PAGE, PROT_READ | PROT_EXEC) != 0;
}

int main(void)
{
    static const unsigned char changed[] = { 0xb8, 43, 0, 0, 0, 0x01, 0xf8, 0xc3 }, breakpoint[] = { 0xcc };
    struct command command;
    int increment = 42;
    say("ready pid=%d victim=%p", getpid(), (void *)victim);
    while (hear(&command)) {
        word sum = 0;
        int bad = 0;
        if (is(&command, "calls")) {
            for (word i = 0; i < command.number; i++)
                bad += victim((int)i) != (int)i + increment;
        } else if (is(&command, "sum")) {
            for (size_t i = 0; i < sizeof from_file; i++)
                sum = sum * 31 + ((const volatile unsigned char *)victim)[i];
        } else if (is(&command, "change")) {
            bad = write_text(changed, sizeof changed);
            increment = 43;
        } else if (is(&command, "debugger")) {
            bad = write_text(breakpoint, sizeof breakpoint);
        } else if (is(&command, "restore")) {
            bad = write_text(from_file, sizeof from_file);
            increment = 42;
        }
        say("done calls=%lu bad=%d sum=%lu", command.number, bad, sum);
    }
    return 0;
}
