/*
 * Shows: breakpoints and stale entries in threads whose signals are blocked or ignored; the program keeps its masks and
 * handlers, and a real fault later reaches its handler.
 *
 * masked blocked    every thread blocks all signals
 * masked ignored    SIGTRAP and SIGILL are ignored
 * masked handlers   SIGSEGV, SIGTRAP and SIGILL have handlers and are blocked
 *   traps N      two threads call trapped N times each                    -> done trapped= bad= kept=
 *   interiors N  two threads enter work at its second instruction, N times each, and call it N times  -> done work= bad= kept=
 *   fault        a real fault of each kind, with handlers in place        -> fault segv= ill= trap=
 * `kept` is 1 if masks and dispositions are those that the program set.
 */
#include "work.h"
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#define THREADS 2

static const int faults[] = { SIGSEGV, SIGTRAP, SIGILL };
static const char *mode;
static volatile word caught[64];

/* The instruction at which to go on behind a fault: each fault below is three bytes long with its padding. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    (void)info;
    caught[signal]++;
    if (signal != SIGTRAP)
        frame->uc_mcontext.gregs[REG_PC] += 3;
}

static void on_other(int signal)
{
    caught[signal]++;
}

static void set_mask(void)
{
    sigset_t set;
    if (strcmp(mode, "blocked") == 0) {
        sigfillset(&set);
    } else {
        sigemptyset(&set);
        for (int i = 0; i < 3; i++)
            if (strcmp(mode, "handlers") == 0)
                sigaddset(&set, faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void set_dispositions(void)
{
    struct sigaction action = { 0 };
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGUSR2);
    action.sa_handler = strcmp(mode, "ignored") == 0 ? SIG_IGN : strcmp(mode, "handlers") == 0 ? on_other : SIG_DFL;
    action.sa_flags = SA_NODEFER;
    for (int i = 0; i < 3; i++)
        sigaction(faults[i], &action, NULL);
}

static int mask_kept(void)
{
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    for (int i = 0; i < 3; i++)
        if (sigismember(&now, faults[i]) != (strcmp(mode, "ignored") != 0))
            return 0;
    return sigismember(&now, SIGUSR2) == (strcmp(mode, "blocked") == 0);
}

static int dispositions_kept(void)
{
    void (*wanted)(int) = strcmp(mode, "ignored") == 0 ? SIG_IGN : strcmp(mode, "handlers") == 0 ? on_other : SIG_DFL;
    for (int i = 0; i < 3; i++) {
        struct sigaction now;
        sigaction(faults[i], NULL, &now);
        if (now.sa_handler != wanted || !sigismember(&now.sa_mask, SIGUSR2) || !(now.sa_flags & SA_NODEFER))
            return 0;
    }
    return 1;
}

struct job {
    word trapped, work, bad, kept, times;
    int interiors;
};

static struct job jobs[THREADS];
static pthread_barrier_t begin, end;

/* The threads set their masks before anybody can attach. */
static void *serve(void *argument)
{
    struct job *job = argument;
    const char *inside = (const char *)work + 1;
    __asm__("" : "+r"(inside));
    set_mask();
    for (pthread_barrier_wait(&begin);; pthread_barrier_wait(&begin)) {
        for (word i = 0; i < job->times; i++) {
            long a = (long)i;
            if (job->interiors) {
                job->bad += enter_work_inside(a, 5, inside) != expect_work(a, 5);
                job->bad += work(a, 6) != expect_work(a, 6);
                job->work++;
            } else {
                job->bad += trapped(a) != expect_trapped(a);
                job->trapped++;
            }
        }
        job->kept = (word)mask_kept();
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static void start_threads(void)
{
    pthread_t thread;
    pthread_barrier_init(&begin, NULL, THREADS + 1);
    pthread_barrier_init(&end, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread, NULL, serve, &jobs[i]);
    /* One round of nothing: afterwards every thread has its mask. */
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&end);
}

static void run(const struct command *command)
{
    /* Asked for when the threads are done: until the tracer has put an action back another thread may see it reset. */
    struct job sum = { .kept = 1 };
    for (int i = 0; i < THREADS; i++)
        jobs[i] = (struct job){ .times = command->number, .interiors = is(command, "interiors") };
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&end);
    for (int i = 0; i < THREADS; i++) {
        sum.trapped += jobs[i].trapped;
        sum.work += jobs[i].work;
        sum.bad += jobs[i].bad;
        sum.kept &= jobs[i].kept;
    }
    sum.kept &= (word)(mask_kept() && dispositions_kept());
    say("done trapped=%lu work=%lu bad=%lu kept=%lu", sum.trapped, sum.work, sum.bad, sum.kept);
}

static void fault(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    sigset_t none;
    for (int i = 0; i < 3; i++)
        sigaction(faults[i], &action, NULL);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    memset((void *)caught, 0, sizeof caught);
    __asm__ volatile("movb $0, (%0)\n" ::"a"(0l) : "memory");
    __asm__ volatile("ud2\n nop\n");
    __asm__ volatile("int3\n");
    say("fault segv=%lu ill=%lu trap=%lu", caught[SIGSEGV], caught[SIGILL], caught[SIGTRAP]);
}

int main(int argc, char **argv)
{
    mode = argc > 1 ? argv[1] : "blocked";
    set_dispositions();
    set_mask();
    start_threads();
    say("ready pid=%d work=%p trapped=%p trapped_site=%p", getpid(), (void *)work, (void *)trapped,
        (const void *)trapped_site);
    struct command command;
    while (hear(&command)) {
        if (is(&command, "fault"))
            fault();
        else
            run(&command);
    }
    return 0;
}
