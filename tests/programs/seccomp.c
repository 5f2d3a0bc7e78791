/*
 * Shows: a process whose system calls are filtered.
 *
 *   seccomp FILTER    default: most calls are allowed, the rest fail with EPERM, as containers have it
 *                     strict:  memfd_create, membarrier, rt_tgsigqueueinfo, openat kill the process
 *                     nomap:   mmap fails with EPERM
 *                     free:    everything is allowed
 *   calls N   -> done work= bad=
 *   exec FILE -> executes it
 */
#include "work.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>

#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ON(call, answer) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, answer)
#define OTHERWISE(answer) BPF_STMT(BPF_RET | BPF_K, answer)
#define ALLOW SECCOMP_RET_ALLOW
#define KILL SECCOMP_RET_KILL_PROCESS
#define REFUSE (SECCOMP_RET_ERRNO | EPERM)

/* What this program and its C library need, and what any program maps memory and sets handlers with. */
static struct sock_filter like_containers[] = {
    NUMBER, ON(read, ALLOW), ON(write, ALLOW), ON(mmap, ALLOW), ON(munmap, ALLOW), ON(mprotect, ALLOW),
    ON(brk, ALLOW), ON(rt_sigaction, ALLOW), ON(rt_sigprocmask, ALLOW), ON(rt_sigreturn, ALLOW),
    ON(futex, ALLOW), ON(exit, ALLOW), ON(exit_group, ALLOW), ON(clone, ALLOW), ON(clone3, ALLOW),
    ON(set_robust_list, ALLOW), ON(rseq, ALLOW), ON(madvise, ALLOW), ON(restart_syscall, ALLOW), ON(execve, ALLOW),
    ON(openat, ALLOW), ON(close, ALLOW), ON(newfstatat, ALLOW), ON(pread64, ALLOW), ON(arch_prctl, ALLOW),
    ON(set_tid_address, ALLOW), ON(prlimit64, ALLOW), ON(getrandom, ALLOW), ON(fstat, ALLOW), ON(access, ALLOW),
    ON(getpid, ALLOW), ON(gettid, ALLOW), ON(sched_yield, ALLOW),
    OTHERWISE(REFUSE),
};
static struct sock_filter strict[] = {
    NUMBER, ON(memfd_create, KILL), ON(membarrier, KILL), ON(rt_tgsigqueueinfo, KILL), ON(openat, KILL),
    OTHERWISE(ALLOW),
};
static struct sock_filter allow_all[] = { OTHERWISE(ALLOW) };
static struct sock_filter nomap[] = { NUMBER, ON(mmap, REFUSE), OTHERWISE(ALLOW) };

static void filter(struct sock_filter *code, size_t len)
{
    struct sock_fprog program = { (unsigned short)len, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) {
        perror("seccomp");
        exit(3);
    }
}

#define FILTER(code) filter(code, sizeof code / sizeof *code)

static void *caller(void *argument)
{
    word calls = *(word *)argument, bad = 0;
    for (word i = 0; i < calls; i++)
        bad += work((long)i, 3) != expect_work((long)i, 3);
    return (void *)bad;
}

int main(int count, char **arguments)
{
    const char *which = count > 1 ? arguments[1] : "";
    struct command command;
    if (!strcmp(which, "default"))
        FILTER(like_containers);
    else if (!strcmp(which, "strict"))
        FILTER(strict);
    else if (!strcmp(which, "free"))
        FILTER(allow_all);
    else if (!strcmp(which, "nomap"))
        FILTER(nomap);
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command)) {
        if (is(&command, "exec")) {
            char *const words[] = { command.text, NULL };
            execv(command.text, words);
            return 4;
        }
        pthread_t thread;
        void *bad, *other = NULL;
        /* A second thread where memory for its stack may be mapped. */
        int threads = strcmp(which, "nomap") ? 2 : 1;
        if (threads == 2 && pthread_create(&thread, NULL, caller, &command.number))
            return 5;
        bad = caller(&command.number);
        if (threads == 2)
            pthread_join(thread, &other);
        say("done work=%lu bad=%lu", threads * command.number, (word)bad + (word)other);
    }
    return 0;
}
