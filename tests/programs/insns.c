/*
 * Shows: each kind of instruction, displaced, does what it does in its place.
 *
 *   go N   calls every function of insns.h N times -> done calls=N bad= (and the name of the last wrong one)
 * The first line has fn_NAME, site_NAME and per_NAME (hits for each call) of every function.
 */
#include "common.h"
#include "insns.h"
#include <cpuid.h>

#define DECLARE(name, per, result) long insn_##name(long i); extern const char site_##name[];
INSTRUCTIONS(DECLARE)

/* How far from an instruction its symbol is (insns.S). */
#ifdef EARLIER
#define ASIDE 0x10000000
#else
#define ASIDE 0
#endif

static long cpu_vendor;

#define MODEL(name, per, result) static long model_##name(long i) { (void)i; return (long)(result); }
INSTRUCTIONS(MODEL)

static const struct {
    const char *name;
    long (*call)(long);
    long (*model)(long);
    const char *site;
    int per;
} table[] = {
#define ROW(name, per, result) { #name, insn_##name, model_##name, site_##name, per },
    INSTRUCTIONS(ROW)
};
#define ROWS (sizeof table / sizeof *table)

/* All callee-saved registers and the direction flag must survive; the compiler does not look. */
static int disturbed(long (*call)(long), long argument, long *result)
{
    word bad;
#ifdef __i386__
    __asm__ volatile(
        "push %%ebx\n push %%ebp\n mov $0x1111, %%ebx\n mov $0x2222, %%ebp\n"
        "call *%2\n"
        "xor $0x1111, %%ebx\n xor $0x2222, %%ebp\n or %%ebx, %%ebp\n"
        "pushf\n pop %%ecx\n and $0x500, %%ecx\n or %%ebp, %%ecx\n pop %%ebp\n pop %%ebx\n"
        : "=&a"(*result), "=&c"(bad), "+&S"(call), "+&D"(argument)
        :
        : "edx", "memory", "cc");
#else
    __asm__ volatile(
        "mov $0x1111, %%ebx\n mov $0x2222, %%r12d\n mov $0x3333, %%r13d\n mov $0x4444, %%r14d\n mov $0x5555, %%r15d\n"
        "call *%2\n"
        "xor $0x1111, %%rbx\n xor $0x2222, %%r12\n xor $0x3333, %%r13\n xor $0x4444, %%r14\n xor $0x5555, %%r15\n"
        "or %%r12, %%rbx\n or %%r13, %%rbx\n or %%r14, %%rbx\n or %%r15, %%rbx\n"
        "pushf\n pop %%r12\n and $0x500, %%r12\n or %%r12, %%rbx\n mov %%rbx, %1\n"
        : "=&a"(*result), "=&m"(bad), "+&S"(call), "+&D"(argument)
        :
        : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm3", "xmm4", "memory", "cc");
#endif
    return bad != 0;
}

int main(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid(0, &a, &b, &c, &d);
    cpu_vendor = (long)b;
    printf("ready pid=%d", getpid());
    for (size_t row = 0; row < ROWS; row++)
        printf(" fn_%s=%p site_%s=%p per_%s=%d", table[row].name, (void *)table[row].call, table[row].name,
               (const void *)(table[row].site - ASIDE), table[row].name, table[row].per);
    say("%s", "");
    struct command command;
    while (hear(&command)) {
        word bad = 0;
        uint64_t seed = 88172645463325252u;
        const char *wrong = "none";
        for (word n = 0; n < command.number; n++) {
            long i = (long)next_random(&seed);
            for (size_t row = 0; row < ROWS; row++) {
                long result;
                if (disturbed(table[row].call, i, &result) || result != table[row].model(i)) {
                    bad++;
                    wrong = table[row].name;
                }
            }
        }
        say("done calls=%lu bad=%lu wrong=%s", command.number, bad, wrong);
    }
    return 0;
}
