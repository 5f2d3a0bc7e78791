/*
 * Shows: a program that leaves its signal handlers by siglongjmp, again and again, in the middle of probed code.
 *
 *   storm N   one thread calls work, another sends it N signals, each ended by siglongjmp
 *             -> done jumps= begun= ended= bad=
 * A call that a signal ended counts as begun and not as ended, so the hits lie between the two.
 */
#include "work.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

static sigjmp_buf home;
static atomic_ulong jumps, bad;
static volatile word begun, ended;
static atomic_int inside, over;

static void on_signal(int signal)
{
    (void)signal;
    if (!inside)
        return;
    siglongjmp(home, 1);
}

static void *worker(void *argument)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    if (sigsetjmp(home, 1))
        jumps++;
    inside = 1;
    for (long i = 0; !over; i++) {
        begun++;
        bad += work(i, 2 * i) != expect_work(i, 2 * i);
        ended++;
    }
    inside = 0;
    return argument;
}

static void storm(word count)
{
    pthread_t thread;
    over = 0;
    pthread_create(&thread, NULL, worker, NULL);
    word goal = jumps + count;
    while (jumps < goal) {
        word before = jumps;
        if (!inside)
            continue;
        pthread_kill(thread, SIGUSR1);
        while (jumps == before && !over)
            sched_yield();
    }
    over = 1;
    pthread_join(thread, NULL);
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigset_t set;
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    say("ready pid=%d work=%p", getpid(), (void *)work);
    struct command command;
    while (hear(&command)) {
        word jumped = jumps;
        begun = ended = 0;
        storm(command.number);
        say("done jumps=%lu begun=%lu ended=%lu bad=%lu", jumps - jumped, begun, ended, bad);
    }
    return 0;
}
