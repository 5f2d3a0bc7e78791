/*
 * Shows: a signal handler that runs while probes come and go returns into the span of a jump, and so does its forked child.
 *
 *   stumble N | elsewhere N -> inside pc=0xADDRESS   the handler runs, on the stack or on another; it hears
 *     unblock               -> unblocked             its signal is blocked no more
 *     above                 -> above                 a second handler runs, on another stack; it hears, too
 *     fork | vfork          -> child status=         the child goes back through all handlers; by vfork it just ends
 *     (any)                                          the handler returns
 *                           -> stumbled value= bad=
 */
#include "common.h"
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>

extern long stumble(const long *at) FIRST_IN_REGISTER;

static long number;
static pid_t parent;

/* Hears until the handler is to return: the child at once. */
static void listen(void)
{
    struct command command;
    while (hear(&command)) {
        if (is(&command, "unblock")) {
            sigset_t none;
            sigemptyset(&none);
            sigprocmask(SIG_SETMASK, &none, NULL);
            say("unblocked");
        } else if (is(&command, "above")) {
            raise(SIGUSR1);
            if (getpid() != parent)
                return;
        } else if (is(&command, "fork") || is(&command, "vfork")) {
            int status = -1;
            pid_t child = is(&command, "fork") ? fork() : vfork();
            if (child == 0 && is(&command, "vfork"))
                _exit(0);
            if (child == 0)
                return;
            waitpid(child, &status, 0);
            say("child status=%d", status);
        } else {
            return;
        }
    }
}

static void above(int signal)
{
    (void)signal;
    say("above");
    listen();
}

static void handler(int signal, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;
    (void)signal, (void)info;
    if (getpid() != parent)
        _exit(9); /* the child went back to where it should not */
    /* stdio is fine here: the fault comes from a place that uses none. */
    say("inside pc=%#lx", (word)interrupted->uc_mcontext.gregs[REG_PC]);
    listen();
    interrupted->uc_mcontext.gregs[REG_FIRST] = (long)&number;
}

int main(void)
{
    static char other_stack[1 << 16];
    stack_t stack = { .ss_sp = other_stack, .ss_size = sizeof other_stack };
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    struct command command;
    parent = getpid();
    say("ready pid=%d stumble=%p", parent, (void *)stumble);
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = above, .sa_flags = SA_ONSTACK }, NULL);
    while (hear(&command)) {
        long *volatile nowhere = NULL;
        action.sa_flags = SA_SIGINFO | (is(&command, "elsewhere") ? SA_ONSTACK : 0);
        sigaction(SIGSEGV, &action, NULL);
        number = (long)command.number;
        long value = stumble(nowhere);
        if (getpid() != parent)
            _exit(value != 3 * number + 5);
        say("stumbled value=%ld bad=%d", value, value != 3 * number + 5);
    }
    return 0;
}
