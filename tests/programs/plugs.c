/*
 * Shows: threads that load and unload libraries in a loop.
 *
 * plugs PATH...   a thread for each library: dlopen, CALLS calls of its plug_inner, dlclose, again and again
 *   counters  -> counters calls= loads= bad=    (`calls` with those of the constructors)
 *   stop      -> stopped calls= loads= bad=
 */
#include "common.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

#define CALLS 10
#define BY_CONSTRUCTOR 3
#define MOST 16

struct thread {
    const char *path;
    pthread_t id;
    atomic_ulong calls, loads, bad;
};

static struct thread threads[MOST];
static atomic_int over;

static void *serve(void *argument)
{
    struct thread *thread = argument;
    while (!atomic_load(&over)) {
        void *library = dlopen(thread->path, RTLD_NOW);
        long (*inner)(long) = library ? (long (*)(long))dlsym(library, "plug_inner") : NULL;
        if (!inner) {
            thread->bad++;
            break;
        }
        thread->calls += BY_CONSTRUCTOR;
        for (long i = 0; i < CALLS; i++)
            thread->bad += inner(i) != i * 3;
        thread->calls += CALLS;
        thread->bad += dlclose(library) != 0;
        thread->loads++;
    }
    return NULL;
}

static void tell(const char *what, int count)
{
    word calls = 0, loads = 0, bad = 0;
    for (int i = 0; i < count; i++) {
        calls += threads[i].calls;
        loads += threads[i].loads;
        bad += threads[i].bad;
    }
    say("%s calls=%lu loads=%lu bad=%lu", what, calls, loads, bad);
}

int main(int argc, char **argv)
{
    int count = argc - 1 < MOST ? argc - 1 : MOST;
    for (int i = 0; i < count; i++) {
        threads[i].path = argv[i + 1];
        if (pthread_create(&threads[i].id, NULL, serve, &threads[i]))
            return 3;
    }
    say("ready pid=%d", getpid());
    struct command command;
    while (hear(&command)) {
        if (is(&command, "stop")) {
            over = 1;
            for (int i = 0; i < count; i++)
                pthread_join(threads[i].id, NULL);
            tell("stopped", count);
        } else {
            tell("counters", count);
        }
    }
    fflush(stdout);
    _exit(0);
}
