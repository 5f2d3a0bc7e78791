/*
 * Shows: threads that get signals all the time while they call a function.
 *
 *   ticking [THREADS]   each thread calls work without end and has a timer of its own, 5,000 times a second
 *   counters  -> counters calls= bad= signals=
 */
#include "work.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct thread {
    _Atomic word calls, bad, signals;
} __attribute__((aligned(128))) threads[64];
static _Thread_local struct thread *self;

static void on_tick(int signal)
{
    (void)signal;
    if (self)
        self->signals++;
}

static void *hot(void *argument)
{
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF };
    struct itimerspec period = { { 0, 200000 }, { 0, 200000 } };
    self = argument;
    event.sigev_notify_thread_id = (int)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &period, NULL))
        exit(3);
    for (long i = 0;; i++) {
        self->bad += work(i, 3) != expect_work(i, 3);
        self->calls++;
    }
    return NULL;
}

int main(int count, char **arguments)
{
    int wanted = count > 1 ? atoi(arguments[1]) : 2;
    struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
    struct command command;
    pthread_t thread;
    sigaction(SIGPROF, &action, NULL);
    for (int i = 0; i < wanted && i < 64; i++)
        if (pthread_create(&thread, NULL, hot, &threads[i]))
            return 3;
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command)) {
        word calls = 0, bad = 0, signals = 0;
        for (int i = 0; i < 64; i++) {
            calls += threads[i].calls;
            bad += threads[i].bad;
            signals += threads[i].signals;
        }
        say("counters calls=%lu bad=%lu signals=%lu", calls, bad, signals);
    }
    return 0;
}
