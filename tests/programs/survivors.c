/*
 * Shows: a memory that outlives who had it first. Commands are obeyed by another task, before that has ended and after.
 *
 *   survivors thread     by a second thread: /proc/PID shows a zombie without memory once the first thread has ended
 *   survivors process    by a process made with CLONE_VM: /proc/PID is another's memory, or nobody's, once the first has ended
 *
 *   calls N     calls work and trapped N times each                    -> done work= trapped= bad=
 *   spawn       posix_spawn of a program that ends well                 -> done bad=
 *   load PATH   dlopen, and 5 calls of its plug_inner behind it         -> done bad=
 *   look        which of the two functions are not as at the start, and mappings of xol's -> seen changed= areas=
 *   end         the first thread, or process, ends                      -> ended pid= tid=
 */
#include "work.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

static pid_t first;
static atomic_int must_end;
static unsigned char before[2][16];

/* By pointers that the compiler does not look through: what an instruction names as data is not probed. */
static const char *volatile watched_at[2];
static const unsigned char *watched(int i) { return (const unsigned char *)watched_at[i]; }

static void calls(long number)
{
    long bad = 0;
    for (long i = 0; i < number; i++) {
        bad += work(i, 3) != expect_work(i, 3);
        bad += trapped(i) != expect_trapped(i);
    }
    say("done work=%ld trapped=%ld bad=%ld", number, number, bad);
}

static void spawn(void)
{
    char *arguments[] = { "true", NULL }, *environment[] = { NULL };
    pid_t child;
    int status = -1, failed = posix_spawnp(&child, "true", NULL, NULL, arguments, environment);
    say("done bad=%d", failed || waitpid(child, &status, 0) != child || status != 0);
}

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    long (*inner)(long) = library ? (long (*)(long))dlsym(library, "plug_inner") : NULL;
    long bad = inner == NULL;
    for (long i = 0; inner && i < 5; i++)
        bad += inner(i) != 3 * i;
    say("done bad=%ld", bad);
}

static void look(void)
{
    char line[512];
    int changed = 0, areas = 0;
    for (int i = 0; i < 2; i++)
        changed += memcmp(before[i], watched(i), sizeof before[i]) != 0;
    FILE *maps = fopen("/proc/thread-self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        areas += strstr(line, "memfd:xol") != NULL;
    fclose(maps);
    say("seen changed=%d areas=%d", changed, areas);
}

static void wait_for_end(void)
{
    char name[64], stat[512], *state;
    snprintf(name, sizeof name, "/proc/%d/stat", first);
    must_end = 1;
    for (;;) { /* `Z` behind the name, or nothing at all */
        FILE *file = fopen(name, "r");
        if (!file)
            break;
        int is_read = fgets(stat, sizeof stat, file) != NULL;
        fclose(file);
        state = is_read ? strrchr(stat, ')') : NULL;
        if (!state || state[2] == 'Z')
            break;
    }
    say("ended pid=%ld tid=%ld", syscall(SYS_getpid), syscall(SYS_gettid));
}

static void *serve(void *unused)
{
    struct command command;
    (void)unused;
    while (hear(&command)) {
        if (is(&command, "calls"))
            calls((long)command.number);
        else if (is(&command, "spawn"))
            spawn();
        else if (is(&command, "load"))
            load(command.text);
        else if (is(&command, "look"))
            look();
        else if (is(&command, "end"))
            wait_for_end();
    }
    must_end = 1;
    exit(0);
}

static int serve_alone(void *unused)
{
    serve(unused);
    return 0;
}

int main(int count, char **arguments)
{
    static char stack[1 << 18] __attribute__((aligned(16)));
    pthread_t thread;
    first = getpid();
    watched_at[0] = (const char *)work;
    watched_at[1] = trapped_site;
    for (int i = 0; i < 2; i++)
        memcpy(before[i], watched(i), sizeof before[i]);
    say("ready pid=%d work=%p trapped_site=%p", first, (void *)work, (const void *)trapped_site);
    int has_thread = count > 1 && !strcmp(arguments[1], "thread");
    if (has_thread ? pthread_create(&thread, NULL, serve, NULL) != 0
                   : clone(serve_alone, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) < 0)
        return 3;
    /* The process made shares what the C library knows of this thread: nothing of that may be used by both. */
    while (!must_end)
        syscall(SYS_sched_yield);
    if (has_thread)
        syscall(SYS_exit, 0); /* pthread_exit of the C library loads another one */
    syscall(SYS_exit_group, 0);
}
