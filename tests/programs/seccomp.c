/*
 * Shows: a process whose system calls are filtered.
 *
 *   seccomp FILTER    default: what programs need is allowed, the rest fails with EPERM. So have containers it (Docker's
 *                              default profile is a longer list of the same form; it allows memfd_create, this does not)
 *                     strict:  memfd_create, membarrier, rt_tgsigqueueinfo, openat kill the process
 *                     deadly:  the same without openat
 *                     nomap:   mmap fails with EPERM
 *                     free:    everything is allowed
 *                     late:    none, until `filter` sets up `deadly`
 *                     some:    `deadly`, but only for the second thread
 *   calls N    each of two threads calls work N times (with `nomap` one)  -> done work= bad=
 *   fork N     makes N children, one after the other, that call work 10 times each -> done work= bad=
 *   load PATH  dlopen -> loaded inner=
 *   plug N     calls its plug_inner N times -> done bad=
 *   filter     -> filtered
 *   exec FILE  executes it
 */
#include "work.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ON(call, answer) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, answer)
#define OTHERWISE(answer) BPF_STMT(BPF_RET | BPF_K, answer)
#define ALLOW SECCOMP_RET_ALLOW
#define KILL SECCOMP_RET_KILL_PROCESS
#define REFUSE (SECCOMP_RET_ERRNO | EPERM)

#ifdef __i386__
#define OF_THE_ISA                                                                                                  \
    ON(fstatat64, ALLOW), ON(statx, ALLOW), ON(mmap2, ALLOW), ON(set_thread_area, ALLOW), ON(waitpid, ALLOW),       \
        ON(futex_time64, ALLOW), ON(ugetrlimit, ALLOW),
#define SYS_MAP SYS_mmap2
#else
#define OF_THE_ISA ON(newfstatat, ALLOW),
#define SYS_MAP SYS_mmap
#endif

/* What this program and its C library need, and what any program maps memory and sets handlers with. */
static struct sock_filter like_containers[] = {
    NUMBER, ON(read, ALLOW), ON(write, ALLOW), ON(mmap, ALLOW), ON(munmap, ALLOW), ON(mprotect, ALLOW),
    ON(brk, ALLOW), ON(rt_sigaction, ALLOW), ON(rt_sigprocmask, ALLOW), ON(rt_sigreturn, ALLOW),
    ON(futex, ALLOW), ON(exit, ALLOW), ON(exit_group, ALLOW), ON(clone, ALLOW), ON(clone3, ALLOW),
    ON(set_robust_list, ALLOW), ON(rseq, ALLOW), ON(madvise, ALLOW), ON(restart_syscall, ALLOW), ON(execve, ALLOW),
    ON(openat, ALLOW), ON(close, ALLOW), ON(pread64, ALLOW), ON(arch_prctl, ALLOW), OF_THE_ISA
    ON(set_tid_address, ALLOW), ON(prlimit64, ALLOW), ON(getrandom, ALLOW), ON(fstat, ALLOW), ON(access, ALLOW),
    ON(getpid, ALLOW), ON(gettid, ALLOW), ON(sched_yield, ALLOW), ON(wait4, ALLOW),
    OTHERWISE(REFUSE),
};
static struct sock_filter strict[] = {
    NUMBER, ON(memfd_create, KILL), ON(membarrier, KILL), ON(rt_tgsigqueueinfo, KILL), ON(openat, KILL),
    OTHERWISE(ALLOW),
};
static struct sock_filter deadly[] = {
    NUMBER, ON(memfd_create, KILL), ON(membarrier, KILL), ON(rt_tgsigqueueinfo, KILL), OTHERWISE(ALLOW),
};
static struct sock_filter allow_all[] = { OTHERWISE(ALLOW) };
static struct sock_filter nomap[] = { NUMBER, ON(MAP, REFUSE), OTHERWISE(ALLOW) };

static void filter(struct sock_filter *code, size_t len)
{
    struct sock_fprog program = { (unsigned short)len, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) {
        perror("seccomp");
        exit(3);
    }
}

#define FILTER(code) filter(code, sizeof code / sizeof *code)

static word call(word calls)
{
    word bad = 0;
    for (word i = 0; i < calls; i++)
        bad += work((long)i, 3) != expect_work((long)i, 3);
    return bad;
}

/* The second thread. It lives as long as the process, so that filters of its own are there when xol comes. */
static pthread_barrier_t begin, end;
static word calls_of_other, bad_of_other;
static int filters_itself;

static void *other(void *argument)
{
    (void)argument;
    if (filters_itself)
        FILTER(deadly);
    pthread_barrier_wait(&end);
    for (;;) {
        pthread_barrier_wait(&begin);
        bad_of_other = call(calls_of_other);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static void start_other(void)
{
    pthread_t thread;
    pthread_barrier_init(&begin, NULL, 2);
    pthread_barrier_init(&end, NULL, 2);
    if (pthread_create(&thread, NULL, other, NULL))
        exit(5);
    pthread_barrier_wait(&end);
}

static void calls(word number)
{
    calls_of_other = number;
    pthread_barrier_wait(&begin);
    word bad = call(number);
    pthread_barrier_wait(&end);
    say("done work=%lu bad=%lu", 2 * number, bad + bad_of_other);
}

static void forks(word number)
{
    word bad = 0;
    for (word i = 0; i < number; i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0)
            _exit(call(10) != 0);
        bad += waitpid(child, &status, 0) != child || status != 0;
    }
    say("done work=%lu bad=%lu", 10 * number, bad);
}

static long (*inner)(long);

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    inner = library ? (long (*)(long))dlsym(library, "plug_inner") : NULL;
    say("loaded inner=%p", (void *)inner);
}

static void plug(word number)
{
    word bad = 0;
    for (long i = 0; i < (long)number; i++)
        bad += inner(i) != 3 * i;
    say("done bad=%lu", bad);
}

static void obey(const struct command *command, int threads)
{
    if (is(command, "exec")) {
        char *const words[] = { command->text, NULL };
        execv(command->text, words);
        exit(4);
    } else if (is(command, "fork"))
        forks(command->number);
    else if (is(command, "load"))
        load(command->text);
    else if (is(command, "plug"))
        plug(command->number);
    else if (is(command, "filter")) {
        FILTER(deadly);
        say("filtered");
    } else if (threads == 2)
        calls(command->number);
    else
        say("done work=%lu bad=%lu", command->number, call(command->number));
}

int main(int count, char **arguments)
{
    const char *which = count > 1 ? arguments[1] : "";
    /* Without new memory there is no stack for a thread. */
    int threads = strcmp(which, "nomap") ? 2 : 1;
    struct command command;
    if (!strcmp(which, "default"))
        FILTER(like_containers);
    else if (!strcmp(which, "strict"))
        FILTER(strict);
    else if (!strcmp(which, "deadly"))
        FILTER(deadly);
    else if (!strcmp(which, "free"))
        FILTER(allow_all);
    else if (!strcmp(which, "nomap"))
        FILTER(nomap);
    filters_itself = !strcmp(which, "some");
    if (threads == 2)
        start_other();
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command))
        obey(&command, threads);
    return 0;
}
