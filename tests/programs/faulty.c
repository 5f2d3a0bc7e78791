/*
 * Shows: a program that raises SIGILL by itself, at an instruction that a probe's jump covers.
 *
 *   calls N   calls raises, and work, N times; the handler steps over the undefined instruction
 *             -> done calls= faults= bad=
 */
#include "work.h"
#include <signal.h>
#include <ucontext.h>

long raises(long a);
static volatile word faults, elsewhere;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    (void)signal;
    faults++;
    elsewhere += info->si_addr != (char *)raises + 3 || frame->uc_mcontext.gregs[REG_PC] != (greg_t)raises + 3;
    frame->uc_mcontext.gregs[REG_PC] += 2;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    struct command command;
    sigaction(SIGILL, &action, NULL);
    say("ready pid=%d raises=%p work=%p", getpid(), (void *)raises, (void *)work);
    while (hear(&command)) {
        word before = faults, bad = 0;
        for (long i = 0; i < (long)command.number; i++) {
            bad += raises(i) != 0;
            bad += work(i, 1) != expect_work(i, 1);
        }
        say("done calls=%lu faults=%lu bad=%lu", command.number, faults - before, bad + elsewhere);
    }
    return 0;
}
