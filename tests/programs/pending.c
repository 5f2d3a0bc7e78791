/*
 * Shows: signals that wait, blocked, while probes come and go, and arrive with their siginfo.
 *
 *   queue     blocks SIGUSR1 and a real-time signal; sends one SIGUSR1 and three of the other, with values  -> queued
 *   calls N   calls work N times                                                         -> done work= bad=
 *   deliver   unblocks them   -> delivered user= code= sender= realtime= order= queue= values=
 * `order` is 1 if the values came in their order; `queue` counts the si_code SI_QUEUE.
 */
#include "work.h"
#include <signal.h>

static volatile word user, code, sender, realtime, order = 1, queued, values;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (signal == SIGUSR1) {
        user++, code = (word)(info->si_code == SI_USER), sender = (word)info->si_pid;
        return;
    }
    order &= (word)(info->si_value.sival_int == (int)(100 + realtime));
    realtime++, queued += info->si_code == SI_QUEUE, values += (word)info->si_value.sival_int;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    struct command command;
    sigset_t set;
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGRTMIN + 1, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 1);
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command)) {
        if (is(&command, "queue")) {
            sigprocmask(SIG_BLOCK, &set, NULL);
            kill(getpid(), SIGUSR1);
            for (int i = 0; i < 3; i++)
                sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 100 + i });
            say("queued");
        } else if (is(&command, "calls")) {
            word bad = 0;
            for (word i = 0; i < command.number; i++)
                bad += work((long)i, 1) != expect_work((long)i, 1);
            say("done work=%lu bad=%lu", command.number, bad);
        } else {
            sigprocmask(SIG_UNBLOCK, &set, NULL);
            say("delivered user=%lu code=%lu sender=%lu realtime=%lu order=%lu queue=%lu values=%lu", user, code, sender,
                realtime, order, queued, values);
        }
    }
    return 0;
}
