/*
 * Shows: threads and children that come and go.
 *
 * storm WIDTH
 *   threads N   N threads, at most WIDTH at once; each calls work(its tid, n) CALLS times -> done threads= calls= bad=
 *   forks N     N children, one after the other; each calls work CALLS times              -> done children= bad=
 *   nest N      N children that call work until `end`                                     -> nested pid0= pid1= ...
 *   end         -> ended children= bad=
 */
#include "work.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define CALLS 3
#define MOST 256

static pthread_t threads[MOST];
static pid_t nested[MOST];
static int width, nests;
static atomic_int *over;

static word call(long first, long times)
{
    word bad = 0;
    for (long i = 0; i < times; i++)
        bad += work(first, i) != expect_work(first, i);
    return bad;
}

static void *one(void *argument)
{
    (void)argument;
    return (void *)call(syscall(SYS_gettid), CALLS);
}

static void storm(word count)
{
    word bad = 0;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    for (word i = 0; i < count + (word)width; i++) {
        void *result = NULL;
        if (i >= (word)width && i - (word)width < count)
            bad += pthread_join(threads[i % (word)width], &result) != 0;
        bad += (word)result;
        if (i < count && pthread_create(&threads[i % (word)width], &attributes, one, NULL)) {
            perror("pthread_create");
            exit(4);
        }
    }
    say("done threads=%lu calls=%lu bad=%lu", count, CALLS * count, bad);
}

static int reap(pid_t pid)
{
    int status = -1;
    return waitpid(pid, &status, 0) != pid || status != 0;
}

static void forks(word count)
{
    word bad = 0;
    for (word i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(call((long)i, CALLS) != 0);
        bad += (word)reap(pid);
    }
    say("done children=%lu bad=%lu", count, bad);
}

static void nest(int count)
{
    nests = count < MOST ? count : MOST;
    atomic_store(over, 0);
    for (int i = 0; i < nests; i++) {
        nested[i] = fork();
        if (nested[i] == 0) {
            word bad = 0;
            while (!atomic_load(over))
                bad += call(i, 1000);
            _exit(bad != 0);
        }
    }
    printf("nested");
    for (int i = 0; i < nests; i++)
        printf(" pid%d=%d", i, (int)nested[i]);
    say("%s", "");
}

static void end(void)
{
    word bad = 0;
    atomic_store(over, 1);
    for (int i = 0; i < nests; i++)
        bad += (word)reap(nested[i]);
    say("ended children=%d bad=%lu", nests, bad);
}

int main(int argc, char **argv)
{
    width = argc > 1 ? atoi(argv[1]) : 1;
    if (width < 1 || width > MOST)
        return 3;
    over = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    say("ready pid=%d work=%p", getpid(), (void *)work);
    struct command command;
    while (hear(&command)) {
        if (is(&command, "threads"))
            storm(command.number);
        else if (is(&command, "forks"))
            forks(command.number);
        else if (is(&command, "nest"))
            nest((int)command.number);
        else
            end();
    }
    atomic_store(over, 1);
    return 0;
}
