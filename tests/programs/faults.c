/*
 * Shows: instructions that fault, what their handlers see, and how a program dies of them.
 *
 *   fault PLACE KIND   -> fault faults= signal= code= addr= pc= same= registers=
 *   die PLACE KIND     the same with the default action
 * KIND: read, write (page 0), wild (an address that is not canonical), bus (behind the end of a mapped file), divide,
 * invalid. Each handler returns without a change twice, so that the instruction faults three times, then mends what is
 * wrong and lets it run again, or skips it (invalid). `same` is 1 if it saw the same each time, `registers` a sum of all
 * that it saw.
 */
#include "common.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

#define PLACES(CALL, kind) CALL(start, kind) CALL(middle, kind) CALL(trap, kind)
#define ALL(CALL) PLACES(CALL, read) PLACES(CALL, write) PLACES(CALL, divide) PLACES(CALL, invalid)
#define DECLARE(place, kind) extern void place##_##kind(void);
ALL(DECLARE)
/* As a number: an address in the program's data would say that something leads there, and no jump could cover it. */
enum { FAULT_OF_start = 0, FAULT_OF_middle = 3, FAULT_OF_trap = 2 };
#define ENTRY(place, kind) { #place, #kind, place##_##kind, FAULT_OF_##place },

extern void call_with(void (*function)(void), const long *registers);

static const struct place {
    const char *place, *kind;
    void (*function)(void);
    int offset;
} places[] = { ALL(ENTRY) };

static const char *at;
static long good[2] = { 5, 6 };
static volatile word faults, same, sum, signal_number, code, address, pc;

/* Stack pointers differ from run to run, and some slots hold no register. */
#ifdef __i386__
enum { LAST = REG_SS };
#define IS_LEFT_OUT(i) ((i) == REG_ESP || (i) == REG_UESP)
#define HOLDS_ADDRESS(i) 0
#else
enum { LAST = REG_CR2 };
#define IS_LEFT_OUT(i) ((i) == REG_RSP || (i) == REG_OLDMASK || (i) == REG_CSGSFS)
#define HOLDS_ADDRESS(i) ((i) == REG_CR2)
#endif

static word sum_of(const greg_t *registers)
{
    uint64_t all = 14695981039346656037ull;
    for (int i = 0; i <= LAST; i++) {
        word value = (word)registers[i];
        if (i == REG_EFL)
            value &= ~0x10000ul; /* the resume flag is the processor's */
        if (i == REG_PC)
            value -= (word)at;
        if (IS_LEFT_OUT(i))
            value = 0;
        if (HOLDS_ADDRESS(i) && ((signal_number != SIGSEGV && signal_number != SIGBUS) || code == SI_KERNEL))
            value = 0; /* of the last page fault, whosever */
        all = (all ^ value) * 1099511628211ull;
    }
    return (word)all;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    int first = faults == 0, alike = code == (word)info->si_code && address == (word)info->si_addr;
    signal_number = (word)signal, code = (word)info->si_code;
    word now = sum_of(registers);
    same = first || (same && alike && now == sum);
    faults++, sum = now;
    address = (word)info->si_addr, pc = (word)registers[REG_PC];
    if (faults < 3)
        return;
    if (signal == SIGILL)
        registers[REG_PC] += 2;
    registers[REG_DI] = (long)good;
    registers[REG_SI] = 1;
}

static long wild(const char *kind)
{
    if (strcmp(kind, "wild") == 0)
        return (long)0x8123456789abcdefull;
    if (strcmp(kind, "bus") == 0) {
        FILE *file = tmpfile();
        void *mapped = file ? mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fileno(file), 0) : MAP_FAILED;
        return mapped == MAP_FAILED ? -1 : (long)mapped + 8;
    }
    return 0x18;
}

static void perform(const char *place, const char *kind)
{
    const char *function = strcmp(kind, "wild") && strcmp(kind, "bus") ? kind : "read";
    long registers[15] = { 0x1111, 0x2222, 1, 0, 0, wild(kind), 0x7777, 0x8888, 0x9999, 0xaaaa, 0xbbbb, 0xcccc, 0xdddd, 0xeeee, 0xffff };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (strcmp(places[i].place, place) == 0 && strcmp(places[i].kind, function) == 0) {
            at = (const char *)places[i].function + places[i].offset;
            call_with(places[i].function, registers);
            return;
        }
    exit(4);
}

int main(void)
{
    static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
    struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
    struct command command;
    printf("ready pid=%d good=%p", getpid(), (void *)good);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        printf(" %s_%s=%p %s_%s_fault=%p", places[i].place, places[i].kind, (void *)places[i].function, places[i].place,
            places[i].kind, (void *)((word)places[i].function + places[i].offset));
    say(" .");
    while (hear(&command)) {
        struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
        char *kind = strchr(command.text, ' ');
        *kind++ = 0;
        if (is(&command, "die")) {
            action = (struct sigaction){ .sa_handler = SIG_DFL };
            setrlimit(RLIMIT_CORE, &unlimited);
        }
        for (int i = 0; i < 4; i++)
            sigaction(signals[i], &action, NULL);
        faults = 0;
        perform(command.text, kind);
        say("fault faults=%lu signal=%lu code=%lu addr=%#lx pc=%#lx same=%lu registers=%#lx", faults, signal_number, code,
            address, pc, same, sum);
    }
    return 0;
}
