/*
 * Shows: contexts that are saved inside probed functions and taken up again after the probes have come or gone.
 *
 *   hops N   N rounds over eight coroutines, each of which sleeps in the middle of hop   -> done hops= bad=
 *   keep     a handler saves the context of a fault inside stumble and never returns     -> kept pc=
 *   resume   that context goes on, with a pointer that is right                          -> resumed value= bad=
 * Coroutines are in the middle of hop between two commands.
 */
#include "common.h"
#include <signal.h>
#include <ucontext.h>

#define COROUTINES 8

extern long stumble(const long *at) FIRST_IN_REGISTER;
extern long hop(long a, ucontext_t *from, ucontext_t *to);
extern const char hop_call[], hop_behind[];

static ucontext_t home, coroutines[COROUTINES], kept;
static char stacks[COROUTINES + 1][1 << 16] __attribute__((aligned(16)));
static word hops, bad;
static long number = 14, value;

static void run(int index)
{
    for (long i = index;; i++) {
        bad += hop(i, &coroutines[index], &home) != 3 * i + 1;
        hops++;
    }
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    kept = *(ucontext_t *)context;
    kept.__fpregs_mem = *kept.uc_mcontext.fpregs;
    kept.uc_mcontext.fpregs = &kept.__fpregs_mem;
    setcontext(&home);
}

static void fall(void)
{
    long *volatile nowhere = NULL;
    value = stumble(nowhere);
    setcontext(&home);
}

static void make(ucontext_t *context, char *stack, void (*function)(void), int index)
{
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = sizeof stacks[0];
    makecontext(context, function, 1, index);
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    struct command command;
    sigaction(SIGSEGV, &action, NULL);
    for (int i = 0; i < COROUTINES; i++)
        make(&coroutines[i], stacks[i], (void (*)(void))run, i);
    say("ready pid=%d stumble=%p hop=%p hop_call=%p hop_behind=%p", getpid(), (void *)stumble, (void *)hop,
        (const void *)hop_call, (const void *)hop_behind);
    while (hear(&command)) {
        if (is(&command, "hops")) {
            word before = hops;
            for (word n = 0; n < command.number; n++)
                for (int i = 0; i < COROUTINES; i++)
                    swapcontext(&home, &coroutines[i]);
            say("done hops=%lu bad=%lu", hops - before, bad);
        } else if (is(&command, "keep")) {
            make(&kept, stacks[COROUTINES], fall, 0);
            swapcontext(&home, &kept);
            say("kept pc=%#lx", (word)kept.uc_mcontext.gregs[REG_PC]);
        } else {
            kept.uc_mcontext.gregs[REG_FIRST] = (long)&number;
            swapcontext(&home, &kept);
            say("resumed value=%ld bad=%d", value, value != 3 * number + 5);
        }
    }
    return 0;
}
