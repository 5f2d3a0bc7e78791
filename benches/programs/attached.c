/* Does what makes events for a tracer, and times it. On stdin, one command a line, one line back:
 *
 *   armed       -> 1 if the first bytes of `never` are not what they were, else 0
 *   signal N    -> nanoseconds of N signals to this thread, each handled
 *   thread N    -> of N threads created and joined
 *   fork N      -> of N children that exit at once, waited for
 *   spawn N     -> of N children by posix_spawn that execute this program and exit, waited for
 *   dlopen N    -> of N times a library loaded and unloaded (argv[1])
 *   crowd N     -> starts N threads that sleep; 0
 *   exit        -> ends, no line
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

__attribute__((noinline)) long never(long a, long b)
{
    return a * 3 + b;
}

/* Of `never`. Volatile, since a compiler takes code for constant. */
static uint64_t first_bytes(void)
{
    return *(const volatile uint64_t *)never;
}

static void handler(int signal)
{
    (void)signal;
}

static void *nothing(void *argument)
{
    return argument;
}

static void *sleeper(void *argument)
{
    for (;;)
        pause();
    return argument;
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Each returns 0, or 1 when it failed. */
static int signal_once(const char *unused)
{
    (void)unused;
    return raise(SIGUSR1) != 0;
}

static int thread_once(const char *unused)
{
    pthread_t thread;
    (void)unused;
    return pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL);
}

static int fork_once(const char *unused)
{
    int status = 1;
    pid_t child = fork();
    (void)unused;
    if (child == 0)
        _exit(0);
    return waitpid(child, &status, 0) != child || status != 0;
}

static int spawn_once(const char *unused)
{
    char *const arguments[] = { "attached", "--nothing", NULL };
    int status = 1;
    pid_t child;
    (void)unused;
    return posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) ||
           waitpid(child, &status, 0) != child || status != 0;
}

static int dlopen_once(const char *library)
{
    void *handle = dlopen(library, RTLD_NOW);
    return !handle || dlclose(handle);
}

static int measure(int (*once)(const char *), const char *argument, unsigned long count)
{
    uint64_t start = now();
    for (unsigned long i = 0; i < count; i++)
        if (once(argument))
            return 1;
    printf("%lu\n", (unsigned long)(now() - start));
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t pristine;
    pthread_t thread;
    char line[64], word[16];
    if (argc > 1 && !strcmp(argv[1], "--nothing"))
        return 0;
    pristine = first_bytes();
    signal(SIGUSR1, handler);
    while (fgets(line, sizeof line, stdin)) {
        unsigned long count = 0;
        int failed = 0;
        if (sscanf(line, "%15s %lu", word, &count) < 1)
            return 2;
        if (!strcmp(word, "armed")) {
            printf("%d\n", first_bytes() != pristine);
        } else if (!strcmp(word, "signal"))
            failed = measure(signal_once, NULL, count);
        else if (!strcmp(word, "thread"))
            failed = measure(thread_once, NULL, count);
        else if (!strcmp(word, "fork"))
            failed = measure(fork_once, NULL, count);
        else if (!strcmp(word, "spawn"))
            failed = measure(spawn_once, NULL, count);
        else if (!strcmp(word, "dlopen"))
            failed = measure(dlopen_once, argc > 1 ? argv[1] : "", count);
        else if (!strcmp(word, "crowd")) {
            while (count-- && !failed)
                failed = pthread_create(&thread, NULL, sleeper, NULL);
            printf("0\n");
        } else if (!strcmp(word, "exit"))
            exit(0);
        if (failed) {
            fprintf(stderr, "attached: %s failed\n", word);
            return 3;
        }
        fflush(stdout);
    }
    return 0;
}
