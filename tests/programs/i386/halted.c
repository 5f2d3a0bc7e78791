/*
 * Shows: code that arrives in the middle of a jump, at a byte that halts.
 *
 *   interiors N   enters work at its third instruction, N times, and calls it N times -> done work= bad=
 * Where a displacement's highest byte would be `int3` something else is mapped, so that it must be `hlt`, `cli` or `sti`.
 */
#include "../work.h"
#include <sys/mman.h>

long enter_work_later(long a, long b, const char *inside);

/* Does what the first two instructions of `work` do and jumps to the third. */
__asm__(".pushsection .text\n"
        ".globl enter_work_later\n.type enter_work_later, @function\n"
        "enter_work_later:\n push %ebp\n lea (%esp), %ebp\n mov 16(%esp), %eax\n jmp *%eax\n"
        ".size enter_work_later, . - enter_work_later\n"
        ".popsection\n");

int main(void)
{
    const char *inside = (const char *)work + 4;
    const word window = ((word)work + 5 + 0xcc000000) & -0x10000ul, len = 0x1000000, guard = 0x20000;
    void *at = (void *)(window - guard);
    struct command command;
    __asm__("" : "+r"(inside));
    if (mmap(at, len + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != at)
        return 3;
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command)) {
        word bad = 0;
        for (long i = 0; i < (long)command.number; i++) {
            bad += enter_work_later(i, 5, inside) != expect_work(i, 5);
            bad += work(i, 6) != expect_work(i, 6);
        }
        say("done work=%lu bad=%lu", command.number, bad);
    }
    return 0;
}
