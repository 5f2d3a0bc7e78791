/*
 * Shows: exact counts in several threads, while probes come and go. Every result is compared.
 *
 * work THREADS [alarm]
 *   calls N   each thread calls work and neighbour N times   -> done work= neighbour= bad=
 *   traps N   each thread calls trapped N times              -> done trapped= bad=
 *   tiny N    each thread calls tiny N times                 -> done tiny= bad=
 *   run       threads call work without end                  -> running
 *   trapping  threads call trapped without end               -> running
 *   counters  calls begun and ended so far of either         -> counters begun= ended=
 *   stop      threads pause                                  -> stopped begun= ended= bad= signals=
 * With `alarm` each thread has a timer whose handler sleeps: at any moment some thread is inside a signal frame.
 */
#include "work.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

enum job { PAUSE, CALLS, TRAPS, TINY, RUN, TRAPPING };

struct thread {
    _Atomic word begun, ended;  /* calls of work, or of trapped without end; written by this thread alone */
    word neighbour, trapped, tiny, bad;
    atomic_ulong signals;
    pthread_t id;
} __attribute__((aligned(128)));

static struct thread threads[256];
static int count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static enum job job;
static word goal, round_number;
static int busy;
static atomic_int paused = 1, alive;
static _Thread_local struct thread *self;

static void bump(_Atomic word *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_release);
}

static void call_work(struct thread *thread, long a, long b)
{
    bump(&thread->begun);
    thread->bad += work(a, b) != expect_work(a, b);
    bump(&thread->ended);
}

static void perform(struct thread *thread, enum job what, word times)
{
    long base = (thread - threads) * 1000003L;
    if (what == RUN)
        for (long i = 0; !atomic_load_explicit(&paused, memory_order_relaxed); i++)
            call_work(thread, base + i, i);
    if (what == TRAPPING)
        for (long i = 0; !atomic_load_explicit(&paused, memory_order_relaxed); i++) {
            bump(&thread->begun);
            thread->bad += trapped(i) != expect_trapped(i);
            bump(&thread->ended);
        }
    for (word i = 0; what == CALLS && i < times; i++) {
        call_work(thread, base + (long)i, (long)i);
        thread->bad += neighbour((long)i) != expect_neighbour((long)i);
        thread->neighbour++;
    }
    for (word i = 0; what == TRAPS && i < times; i++) {
        thread->bad += trapped((long)i) != expect_trapped((long)i);
        thread->trapped++;
    }
    for (word i = 0; what == TINY && i < times; i++) {
        thread->bad += tiny((long)i) != expect_tiny((long)i);
        thread->tiny++;
    }
}

static void *serve(void *argument)
{
    self = argument;
    word seen = 0;
    alive++;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (round_number == seen)
            pthread_cond_wait(&changed, &lock);
        seen = round_number;
        enum job what = job;
        word times = goal;
        pthread_mutex_unlock(&lock);
        perform(self, what, times);
        pthread_mutex_lock(&lock);
        if (--busy == 0)
            pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void begin(enum job what, word times)
{
    pthread_mutex_lock(&lock);
    job = what;
    goal = times;
    busy = count;
    round_number++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void finish(void)
{
    pthread_mutex_lock(&lock);
    while (busy)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static struct thread total(void)
{
    struct thread sum = { 0 };
    /* Ended first: a call that begins between the two readings must not look ended before it began. */
    for (int i = 0; i < count; i++)
        sum.ended += atomic_load(&threads[i].ended);
    for (int i = 0; i < count; i++) {
        sum.begun += atomic_load(&threads[i].begun);
        sum.signals += threads[i].signals;
        sum.neighbour += threads[i].neighbour;
        sum.trapped += threads[i].trapped;
        sum.tiny += threads[i].tiny;
        sum.bad += threads[i].bad;
    }
    return sum;
}

static void on_alarm(int signal)
{
    int saved = errno;
    struct timespec nap = { 0, 15000000 };
    (void)signal;
    nanosleep(&nap, NULL);
    if (self)
        self->signals++;
    errno = saved;
}

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* A timer of its own for each thread, so that every thread has sleeping handlers, not only the one the kernel picks. */
static void *serve_with_alarm(void *argument)
{
    struct sigevent event = { 0 };
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGALRM;
    event.sigev_notify_thread_id = (int)syscall(SYS_gettid);
    struct itimerspec period = { { 0, 20000000 }, { 0, 20000000 } };
    timer_t timer;
    self = argument;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &period, NULL)) {
        perror("timer");
        exit(3);
    }
    return serve(argument);
}

static void obey(const struct command *command)
{
    struct thread sum;
    if (is(command, "run") || is(command, "trapping")) {
        atomic_store(&paused, 0);
        begin(is(command, "run") ? RUN : TRAPPING, 0);
        say("running");
    } else if (is(command, "counters")) {
        sum = total();
        say("counters begun=%lu ended=%lu", sum.begun, sum.ended);
    } else if (is(command, "stop")) {
        atomic_store(&paused, 1);
        finish();
        sum = total();
        say("stopped begun=%lu ended=%lu bad=%lu signals=%lu", sum.begun, sum.ended, sum.bad, sum.signals);
    } else {
        struct thread before = total();
        begin(is(command, "calls") ? CALLS : is(command, "traps") ? TRAPS : TINY, command->number);
        finish();
        sum = total();
        say("done work=%lu neighbour=%lu trapped=%lu tiny=%lu bad=%lu", sum.ended - before.ended,
            sum.neighbour - before.neighbour, sum.trapped - before.trapped, sum.tiny - before.tiny, sum.bad);
    }
}

int main(int argc, char **argv)
{
    int alarms = argc > 2 && strcmp(argv[2], "alarm") == 0;
    count = argc > 1 ? atoi(argv[1]) : 1;
    struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
    sigaction(SIGALRM, &action, NULL);
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i].id, NULL, alarms ? serve_with_alarm : serve, &threads[i]))
            return 3;
    while (alive < count) /* a thread that is not there yet still has the mask of pthread_create */
        sched_yield();
    say("ready pid=%d work=%p neighbour=%p tiny=%p trapped=%p trapped_site=%p", getpid(), (void *)work,
        (void *)neighbour, (void *)tiny, (void *)trapped, (const void *)trapped_site);
    struct command command;
    while (hear(&command))
        obey(&command);
    fflush(stdout);
    _exit(0);
}
