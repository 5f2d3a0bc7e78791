/*
 * Shows: a signal handler that runs while probes come and go returns into the span of a jump.
 *
 *   stumble N -> inside pc=0xADDRESS   the handler runs; it waits for the next line
 *   (any)     -> stumbled value= bad=
 */
#include "common.h"
#include <signal.h>
#include <ucontext.h>

extern long stumble(const long *at) FIRST_IN_REGISTER;

static long number;

static void handler(int signal, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;
    struct command command;
    (void)signal, (void)info;
    /* stdio is fine here: the fault comes from a place that uses none. */
    say("inside pc=%#lx", (word)interrupted->uc_mcontext.gregs[REG_PC]);
    hear(&command);
    interrupted->uc_mcontext.gregs[REG_FIRST] = (long)&number;
}

int main(void)
{
    static char other_stack[1 << 16];
    stack_t stack = { .ss_sp = other_stack, .ss_size = sizeof other_stack };
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    struct command command;
    say("ready pid=%d stumble=%p", getpid(), (void *)stumble);
    sigaltstack(&stack, NULL);
    while (hear(&command)) {
        long *volatile nowhere = NULL;
        action.sa_flags = SA_SIGINFO | (is(&command, "elsewhere") ? SA_ONSTACK : 0);
        sigaction(SIGSEGV, &action, NULL);
        number = (long)command.number;
        long value = stumble(nowhere);
        say("stumbled value=%ld bad=%d", value, value != 3 * number + 5);
    }
    return 0;
}
