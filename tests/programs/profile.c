/*
 * Shows: a storm of SIGPROF, from one timer for each thread, over functions that are called all the time.
 *
 * profile THREADS [PAUSE]   PAUSE: nanoseconds between two rounds of calls
 *   storm SECONDS   -> done signals= overruns= outside= pc= info= work= trapped= neighbour= bad=
 *   start           the same until stop  -> started
 *   stop            -> done ...
 * `outside` counts handlers whose PC was in no text that was there at the start, `pc` is the last such; `info` counts
 * siginfos that are not the timer's.
 */
#include "work.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <ucontext.h>

#define PERIOD 400000 /* nanoseconds */

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

struct thread {
    volatile word signals, overruns, outside, pc, info;
    word work, trapped, neighbour, bad;
    int number;
    pthread_t id;
} __attribute__((aligned(128)));

static struct thread threads[64];
static struct { word start, end; } text[256];
static int count, texts;
static word pause_time;
static atomic_int over, timers;
static _Thread_local struct thread *self;

static void read_text(void)
{
    char line[512], permissions[8];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps) && texts < 256)
        if (sscanf(line, "%lx-%lx %7s", &text[texts].start, &text[texts].end, permissions) == 3 && permissions[2] == 'x')
            texts++;
    fclose(maps);
}

static void on_profile(int signal, siginfo_t *info, void *context)
{
    word pc = (word)((ucontext_t *)context)->uc_mcontext.gregs[REG_PC];
    int known = 0;
    (void)signal;
    for (int i = 0; i < texts; i++)
        known |= text[i].start <= pc && pc < text[i].end;
    self->signals++;
    self->overruns += (word)info->si_overrun;
    if (!known)
        self->outside++, self->pc = pc;
    self->info += info->si_code != SI_TIMER || info->si_value.sival_int != self->number;
}

static void round_of_calls(struct thread *thread, long i)
{
    for (long n = 0; n < 16; n++)
        thread->bad += work(i, n) != expect_work(i, n);
    thread->work += 16;
    thread->bad += neighbour(i) != expect_neighbour(i);
    thread->neighbour++;
    if ((i & 63) == 0) {
        thread->bad += trapped(i) != expect_trapped(i);
        thread->trapped++;
    }
}

static void *serve(void *argument)
{
    struct sigevent event = { 0 };
    struct itimerspec period = { { 0, PERIOD }, { 0, PERIOD } };
    timer_t timer;
    self = argument;
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGPROF;
    event.sigev_value.sival_int = self->number;
    event.sigev_notify_thread_id = (int)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &period, NULL)) {
        perror("timer");
        exit(3);
    }
    timers++;
    for (long i = 0; !atomic_load_explicit(&over, memory_order_relaxed); i++) {
        round_of_calls(self, i);
        for (uint64_t until = pause_time ? nanoseconds() + pause_time : 0; until && nanoseconds() < until;)
            ;
    }
    timer_delete(timer);
    return NULL;
}

static void start(void)
{
    over = timers = 0;
    for (int i = 0; i < count; i++) {
        threads[i] = (struct thread){ .number = 1000 + i };
        if (pthread_create(&threads[i].id, NULL, serve, &threads[i]))
            exit(3);
    }
    while (timers < count)
        sched_yield();
}

static void stop(void)
{
    struct thread sum = { 0 };
    over = 1;
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i].id, NULL);
        sum.signals += threads[i].signals, sum.overruns += threads[i].overruns, sum.outside += threads[i].outside;
        sum.info += threads[i].info, sum.work += threads[i].work, sum.trapped += threads[i].trapped;
        sum.neighbour += threads[i].neighbour, sum.bad += threads[i].bad;
        sum.pc = threads[i].pc ? threads[i].pc : sum.pc;
    }
    say("done signals=%lu overruns=%lu outside=%lu pc=%#lx info=%lu work=%lu trapped=%lu neighbour=%lu bad=%lu",
        sum.signals, sum.overruns, sum.outside, sum.pc, sum.info, sum.work, sum.trapped, sum.neighbour, sum.bad);
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_sigaction = on_profile, .sa_flags = SA_SIGINFO | SA_RESTART };
    struct command command;
    count = argc > 1 ? atoi(argv[1]) : 4;
    pause_time = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
    sigaction(SIGPROF, &action, NULL);
    read_text();
    say("ready pid=%d work=%p neighbour=%p trapped=%p trapped_site=%p", getpid(), (void *)work, (void *)neighbour,
        (void *)trapped, (const void *)trapped_site);
    while (hear(&command)) {
        if (is(&command, "stop")) {
            stop();
            continue;
        }
        start();
        if (is(&command, "storm")) {
            uint64_t end = nanoseconds() + command.number * 1000000000ull;
            while (nanoseconds() < end)
                usleep(10000);
            stop();
        } else {
            say("started");
        }
    }
    return 0;
}
