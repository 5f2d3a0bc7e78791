/*
 * Shows: signals that are queued again. SIGTRAP is ignored, so a breakpoint of a tracer costs the process that action, and
 * the call that puts it back takes the thread away from the signal that it was about to get.
 *
 *   ticking [THREADS [filtered]]   each thread calls work without end and has a timer of its own, 5,000 times a second;
 *                                  `filtered`: with a system-call filter that allows everything
 *   counters  -> counters calls= bad= signals= foreign=
 * `foreign` are signals that are not the timer's by their siginfo.
 */
#include "work.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct thread {
    _Atomic word calls, bad, signals, foreign;
} __attribute__((aligned(128))) threads[8];
static _Thread_local struct thread *self;

static void on_tick(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    if (self) {
        self->signals++;
        self->foreign += info->si_code != SI_TIMER;
    }
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

static void allow_all(void)
{
    struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = { 1, &code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        exit(3);
}

int main(int count, char **arguments)
{
    int wanted = count > 1 ? atoi(arguments[1]) : 1;
    struct sigaction action = { .sa_sigaction = on_tick, .sa_flags = SA_RESTART | SA_SIGINFO };
    struct command command;
    pthread_t thread;
    if (count > 2 && !strcmp(arguments[2], "filtered"))
        allow_all();
    signal(SIGTRAP, SIG_IGN);
    sigaction(SIGPROF, &action, NULL);
    for (int i = 0; i < wanted && i < 8; i++)
        if (pthread_create(&thread, NULL, hot, &threads[i]))
            return 3;
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command)) {
        word calls = 0, bad = 0, signals = 0, foreign = 0;
        for (int i = 0; i < 8; i++) {
            calls += threads[i].calls;
            bad += threads[i].bad;
            signals += threads[i].signals;
            foreign += threads[i].foreign;
        }
        say("counters calls=%lu bad=%lu signals=%lu foreign=%lu", calls, bad, signals, foreign);
    }
    return 0;
}
