/*
 * Shows: a program that leaves its signal handlers by siglongjmp, again and again, in the middle of probed code.
 *
 *   storm N   one thread calls work, another sends it N signals, each ended by siglongjmp
 *             -> done jumps= begun= ended= words= bad=
 *   spoil N   the same, and each handler first writes junk over the state that xol shares with the program: `words`
 * A call that a signal ended counts as begun and not as ended, so the hits lie between the two.
 */
#include "work.h"
#include "state_of_xol.h"
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

static sigjmp_buf home;
static atomic_ulong jumps, bad;
static volatile word begun, ended;
static atomic_int inside, over;
static sem_t jumped;    /* the other thread sleeps meanwhile: a tracer needs the processor */
static struct shared_state shared;
static word words;

static void on_signal(int signal)
{
    (void)signal;
    if (!inside)
        return;
    if (shared.words)
        words += scribble(&shared, 16);
    siglongjmp(home, 1);
}

static void *worker(void *argument)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    if (sigsetjmp(home, 1)) {
        jumps++;
        sem_post(&jumped);
    } else {
        inside = 1;
        sem_post(&jumped);
    }
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
    sem_wait(&jumped);
    for (word i = 0; i < count; i++) {
        pthread_kill(thread, SIGUSR1);
        sem_wait(&jumped);
    }
    over = 1;
    pthread_join(thread, NULL);
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigset_t set;
    sigaction(SIGUSR1, &action, NULL);
    sem_init(&jumped, 0, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    say("ready pid=%d work=%p", getpid(), (void *)work);
    struct command command;
    while (hear(&command)) {
        word before = jumps;
        begun = ended = words = 0;
        shared = is(&command, "spoil") ? find_shared_state() : (struct shared_state){ 0 };
        storm(command.number);
        say("done jumps=%lu begun=%lu ended=%lu words=%lu bad=%lu", jumps - before, begun, ended, words, bad);
    }
    return 0;
}
