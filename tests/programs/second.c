/*
 * Shows: exact counts while a process has one thread, and from its second thread on. A timer's handler calls what the
 * thread calls that it interrupts. Every result is compared.
 *
 * second
 *   calls N    the only thread calls work N times                     -> done work= bad=
 *   family N   the same behind a fork and a posix_spawn               -> done work= bad=
 *   vfork N    a vfork child calls work N times              -> done work= bad= child=
 *   threads N  four threads call work N times each, at once, and end  -> done work= bad=
 */
#include "work.h"
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>

#define THREADS 4

static atomic_ulong called, bad;

static void call_work(long a, long b)
{
    atomic_fetch_add(&bad, work(a, b) != expect_work(a, b));
    atomic_fetch_add(&called, 1);
}

static void on_alarm(int signal)
{
    int error = errno;
    for (int i = 0; i < 3; i++)
        call_work(i, signal);
    errno = error;
}

static void set_timer(long microseconds)
{
    struct itimerval timer = { { 0, microseconds }, { 0, microseconds } };
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void *serve(void *argument)
{
    for (long i = 0; i < *(long *)argument; i++)
        call_work(i, 3);
    return NULL;
}

static void make_children(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    char *arguments[] = { "true", NULL }, *environment[] = { NULL };
    if (posix_spawnp(&child, "true", NULL, NULL, arguments, environment) == 0)
        waitpid(child, NULL, 0);
}

static void run_threads(long *calls)
{
    pthread_t ids[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&ids[i], NULL, serve, calls))
            exit(1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
}

static pid_t call_in_vfork_child(long *calls)
{
    pid_t child = vfork();
    if (child == 0) {
        serve(calls);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return child;
}

int main(void)
{
    signal(SIGALRM, on_alarm);
    say("ready pid=%d work=%#lx", getpid(), (word)work);
    struct command command;
    while (hear(&command)) {
        long calls = (long)command.number;
        called = bad = 0;
        set_timer(300);
        if (is(&command, "family"))
            make_children();
        pid_t child = 0;
        if (is(&command, "threads"))
            run_threads(&calls);
        else if (is(&command, "vfork"))
            child = call_in_vfork_child(&calls);
        else
            serve(&calls);
        set_timer(0);
        say("done work=%lu bad=%lu child=%d", called, bad, child);
    }
    return 0;
}
