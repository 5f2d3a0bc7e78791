/*
 * Shows: tasks that a process's tracer is not told of (workers that the kernel makes for io_uring, and what CLONE_UNTRACED
 * makes), and a thread that another tracer has.
 *
 * hidden
 *   calls N    the first thread calls work N times       -> done bad=
 *   ring       has an io_uring worker wait for ever      -> ring error= worker=   (0 where there is none)
 *   clone      makes a task by CLONE_UNTRACED            -> clone tid=
 *   thread     makes a thread                            -> thread tid=
 *   load PATH  loads a library                           -> load bad=
 *   both N     N calls by the first thread and by that task or thread, at once    -> done bad=
 *   threads N  two more threads call work N times each, at once, and end           -> done bad=
 */
#include "work.h"
#include <dirent.h>
#include <dlfcn.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static atomic_ulong bad;
static atomic_int other_tid, runners;
static int orders[2], answers[2];

static void *call(void *times)
{
    word wrong = 0;
    for (word i = 0; i < (word)times; i++)
        wrong += work((long)i, 3) != expect_work((long)i, 3);
    atomic_fetch_add(&bad, wrong);
    return NULL;
}

/* Both run when either goes on. */
static void meet(void)
{
    int meeting = atomic_fetch_add(&runners, 1) / 2;
    while (atomic_load(&runners) < 2 * meeting + 2)
        ;
}

/* Nothing of the C library's that needs a thread's own data: a cloned task has the first thread's. */
static int obey(void *unused)
{
    (void)unused;
    atomic_store(&other_tid, (int)syscall(SYS_gettid));
    word times;
    while (syscall(SYS_read, orders[0], &times, sizeof times) == sizeof times) {
        meet();
        call((void *)times);
        syscall(SYS_write, answers[1], "", 1);
    }
    return 0;
}

static void *obey_as_thread(void *unused)
{
    obey(unused);
    return NULL;
}

static int wait_for_other(void)
{
    while (!atomic_load(&other_tid))
        sched_yield();
    return atomic_load(&other_tid);
}

static int make_hidden(void)
{
    static char stack[1 << 16] __attribute__((aligned(16)));
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_UNTRACED;
    return clone(obey, stack + sizeof stack, flags, NULL) < 0 ? 0 : wait_for_other();
}

static int make_thread(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, obey_as_thread, NULL) ? 0 : wait_for_other();
}

/* A read of a pipe that nobody writes to, which a worker has to wait for. Gives an error number. */
static int have_worker(void)
{
    static char byte;
    static int never[2];
    struct io_uring_params params = { 0 };
    int ring = (int)syscall(SYS_io_uring_setup, 1, &params);
    if (ring < 0)
        return errno;
    size_t length = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    int rights = PROT_READ | PROT_WRITE;
    char *queue = mmap(NULL, length, rights, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry = mmap(NULL, sizeof *entry, rights, MAP_SHARED, ring, IORING_OFF_SQES);
    if (queue == MAP_FAILED || entry == MAP_FAILED || pipe(never))
        return errno;
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_READ;
    entry->flags = IOSQE_ASYNC;
    entry->fd = never[0];
    entry->addr = (uint64_t)(uintptr_t)&byte;
    entry->len = 1;
    ((unsigned *)(queue + params.sq_off.array))[0] = 0;
    atomic_store((atomic_uint *)(queue + params.sq_off.tail), 1);
    return syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) == 1 ? 0 : errno;
}

/* Its number. It is made by the call that needs it. */
static int find_worker(void)
{
    int found = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; tasks && (entry = readdir(tasks));)
        if (atoi(entry->d_name) > 0 && atoi(entry->d_name) != getpid())
            found = atoi(entry->d_name);
    if (tasks)
        closedir(tasks);
    return found;
}

static void both(word times)
{
    char byte;
    if (write(orders[1], &times, sizeof times) != sizeof times)
        bad++;
    meet();
    call((void *)times);
    if (read(answers[0], &byte, 1) != 1)
        bad++;
}

static void two_threads(word times)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        bad += pthread_create(&threads[i], NULL, call, (void *)times) != 0;
    for (int i = 0; i < 2; i++)
        bad += pthread_join(threads[i], NULL) != 0;
}

int main(void)
{
    if (pipe(orders) || pipe(answers))
        return 3;
    /* Where Yama is in the way another process of the test's traces a thread. */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    say("ready pid=%d work=%#lx", getpid(), (word)work);
    struct command command;
    while (hear(&command)) {
        if (is(&command, "ring")) {
            int error = have_worker();
            say("ring error=%d worker=%d", error, error ? 0 : find_worker());
        } else if (is(&command, "clone")) {
            say("clone tid=%d", make_hidden());
        } else if (is(&command, "thread")) {
            say("thread tid=%d", make_thread());
        } else if (is(&command, "load")) {
            say("load bad=%d", dlopen(command.text, RTLD_NOW) == NULL);
        } else {
            if (is(&command, "both"))
                both(command.number);
            else if (is(&command, "threads"))
                two_threads(command.number);
            else
                call((void *)command.number);
            say("done bad=%lu", atomic_load(&bad));
        }
    }
    fflush(stdout);
    _exit(0);
}
