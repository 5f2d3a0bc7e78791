/*
 * Shows: who counts what when processes make others. Every process notes its own calls of work in memory that all share,
 * also across exec, and compares each result.
 *
 *   fork N        N children, one after the other, of 10 to 16 calls each; one of the parent's own after each
 *   grand N       the same, each child with a child of its own
 *   vfork N       children that call work 3 times (in their parent's memory), then execute this program: 5 calls
 *   spawn N       the same by posix_spawn: no call before its exec
 *   clonevm N     the same by clone(CLONE_VM)
 *   stay N        a child by clone(CLONE_VM) that calls work N times and never executes anything
 *   other N       a child by clone(0) that calls work N times: a copy, whose end no SIGCHLD tells
 *   slow N        N children by vfork that sleep for 300 ms before their exec -> slow, and in the end done
 *   chain N       replaces itself N times by itself, with 7 calls each time -> ready
 *   thread        a thread that is not the leader replaces the process, while others call work -> ready
 *   self PATH     replaces itself by PATH
 *   run HOW PATH  runs PATH by HOW (fork, vfork, spawn) -> ran status=
 *   storm         children of all kinds until the next line; some live on -> storming; then stormed lives=
 *   kill N        a child that makes children which live on, and is killed after about N of them -> killed lives=
 *   release       those that live on end -> done
 * Each but the first answers -> done bad=
 *   log           -> log pPID=CALLS for every process; bPID=CALLS begun, where threads were killed
 */
#include "work.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

extern char **environ;

enum { SHARED = 9, LIVE = 10, PROCESSES = 16384 };

/* What all processes share, across exec too: a memory file at descriptor SHARED. */
static struct shared {
    _Atomic int used;
    _Atomic long bad;
    struct {
        _Atomic int pid;
        _Atomic long begun, ended;
    } one[PROCESSES];
} *shared;

static char self[512];

static int my_place(void)
{
    int pid = getpid(), used = shared->used;
    for (int i = used - 1; i >= 0; i--)
        if (shared->one[i].pid == pid)
            return i;
    int place = atomic_fetch_add(&shared->used, 1);
    if (place >= PROCESSES)
        abort();
    shared->one[place].pid = pid;
    return place;
}

static void call_as(int place, long times)
{
    for (long i = 0; i < times; i++) {
        shared->one[place].begun++;
        shared->bad += work(i, place) != expect_work(i, place);
        shared->one[place].ended++;
    }
}

static void call(long times) { call_as(my_place(), times); }

static void bad(int is) { shared->bad += is != 0; }

static void execute_leaf(const char *calls, const char *stays)
{
    char *argv[] = { self, "leaf", (char *)calls, (char *)stays, NULL };
    execve(self, argv, environ);
    _exit(9);
}

/* Waits until the writing end of LIVE, which the first process has, is closed. */
static void live_on(void)
{
    char byte;
    close(LIVE + 1);
    while (read(LIVE, &byte, 1) != 0)
        ;
    call(3);
    _exit(0);
}

static int leaf(long calls, int stays)
{
    call(calls);
    if (stays)
        live_on();
    return 0;
}

static void wait_for(pid_t pid)
{
    int status = -1;
    bad(pid < 0);
    if (pid > 0)
        bad(waitpid(pid, &status, __WALL) != pid || status != 0);
}

static void one_fork(long i)
{
    pid_t pid = fork();
    if (pid == 0) {
        call(10 + i % 7);
        _exit(0);
    }
    wait_for(pid);
    call(1);
}

static void one_grand(long i)
{
    pid_t pid = fork();
    if (pid == 0) {
        one_fork(i);
        call(2);
        _exit(0);
    }
    wait_for(pid);
}

static int before_exec;

static pid_t make_vfork(const char *stays)
{
    int place = my_place(), naps = before_exec;
    pid_t pid = vfork();
    if (pid == 0) {
        call_as(place, 3);
        if (naps)
            usleep(300000);
        execute_leaf("5", stays);
    }
    return pid;
}

static pid_t make_spawn(const char *stays)
{
    char *argv[] = { self, "leaf", "5", (char *)stays, NULL };
    pid_t pid = -1;
    bad(posix_spawn(&pid, self, NULL, NULL, argv, environ));
    return pid;
}

static char stack[1 << 16] __attribute__((aligned(16)));
static int clone_place;
static long clone_calls;

static int in_clone(void *executes)
{
    call_as(clone_place, clone_calls);
    if (executes)
        execute_leaf("5", "");
    _exit(0);
}

static pid_t make_clone(int flags, long calls, int executes)
{
    clone_place = my_place();
    clone_calls = calls;
    return clone(in_clone, stack + sizeof stack, flags, executes ? "" : NULL);
}

static int in_other(void *nothing)
{
    (void)nothing;
    call(clone_calls);
    _exit(0);
}

static void *keep_calling(void *place)
{
    for (;;)
        call_as((int)(long)place, 1);
    return NULL;
}

static void *replace(void *how)
{
    char *argv[] = { self, "again", how, NULL };
    execve(self, argv, environ);
    _exit(9);
}

static void replace_from_thread(const char *left)
{
    pthread_t thread;
    long place = my_place(), before = shared->one[place].ended;
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, NULL, keep_calling, (void *)place);
    while (shared->one[place].ended < before + 1000)
        sched_yield();
    pthread_create(&thread, NULL, replace, (void *)left);
    keep_calling((void *)place);
}

static int run(const char *how, char *path)
{
    char *argv[] = { path, NULL };
    int status = -1;
    pid_t pid;
    if (!strcmp(how, "spawn")) {
        if (posix_spawn(&pid, path, NULL, NULL, argv, environ))
            return -1;
    } else {
        pid = strcmp(how, "vfork") ? fork() : vfork();
        if (pid == 0) {
            execve(path, argv, environ);
            _exit(99);
        }
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int is_told(void)
{
    struct pollfd input = { 0, POLLIN, 0 };
    return poll(&input, 1, 0) != 0;
}

/* Makes children of all kinds; every eighth one lives on, at most 40. Gives how many those are. */
static long storm(void)
{
    long lives = 0;
    for (long i = 0; !is_told(); i++) {
        const char *stays = i % 8 == 7 && lives < 40 ? "stays" : "";
        pid_t pid = -1;
        switch (i / 8 % 4) {
        case 0:
            pid = fork();
            if (pid == 0) {
                leaf(4, *stays);
                _exit(0);
            }
            break;
        case 1: pid = make_vfork(stays); break;
        case 2: pid = make_spawn(stays); break;
        case 3:
            pid = fork();
            if (pid == 0) {
                call(2);
                execute_leaf("5", stays);
            }
        }
        bad(pid < 0);
        if (*stays)
            lives++;
        else
            wait_for(pid);
    }
    return lives;
}

static long kill_a_maker(long after)
{
    _Atomic long *made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t maker = fork();
    if (maker == 0) {
        char line[16];
        say("maker pid=%d work=%p", getpid(), (void *)work);
        if (!fgets(line, sizeof line, stdin)) /* xol is there */
            _exit(3);
        for (;;) {
            pid_t pid = fork();
            if (pid == 0)
                live_on();
            (*made)++;
        }
    }
    while (*made < after)
        sched_yield();
    kill(maker, SIGKILL);
    waitpid(maker, NULL, 0);
    long lives = *made;
    munmap((void *)made, 4096);
    return lives;
}

static void make_life_line(void)
{
    int ends[2];
    if (pipe(ends) || dup2(ends[0], LIVE) < 0 || dup3(ends[1], LIVE + 1, O_CLOEXEC) < 0)
        exit(3);
    for (int i = 0; i < 2; i++)
        if (ends[i] != LIVE && ends[i] != LIVE + 1)
            close(ends[i]);
}

static void release(void)
{
    int status = 0;
    close(LIVE + 1);
    while (waitpid(-1, &status, __WALL) > 0)
        bad(status != 0);
    make_life_line();
}

static void print_log(void)
{
    printf("log");
    for (int i = 0; i < shared->used; i++)
        printf(" p%d=%ld b%d=%ld", shared->one[i].pid, shared->one[i].ended, shared->one[i].pid,
            shared->one[i].begun);
    say(" bad=%ld", shared->bad);
}

static void obey(struct command *command)
{
    word n = command->number;
    char left[32], *rest = strchr(command->text, ' ');
    snprintf(left, sizeof left, "%ld", (long)n - 1);
    if (is(command, "log")) {
        print_log();
        return;
    }
    if (is(command, "storm")) {
        say("storming");
        long lives = storm();
        say("stormed lives=%ld", lives);
        return;
    }
    if (is(command, "kill")) {
        long lives = kill_a_maker((long)n);
        say("killed lives=%ld", lives);
        return;
    }
    if (is(command, "run") && rest) {
        *rest = 0;
        say("ran status=%d", run(command->text, rest + 1));
        return;
    }
    if (is(command, "self")) {
        char *argv[] = { command->text, NULL };
        execve(command->text, argv, environ);
        bad(1);
    } else if (is(command, "chain")) {
        replace(left);
    } else if (is(command, "thread")) {
        replace_from_thread("0");
    } else if (is(command, "stay")) {
        wait_for(make_clone(CLONE_VM | SIGCHLD, (long)n, 0));
    } else if (is(command, "other")) {
        clone_calls = (long)n;
        wait_for(clone(in_other, stack + sizeof stack, 0, NULL));
    } else if (is(command, "release")) {
        release();
    } else if (is(command, "slow")) {
        say("slow");
        before_exec = 1;
    }
    for (long i = 0; i < (long)n; i++) {
        if (is(command, "fork"))
            one_fork(i);
        else if (is(command, "grand"))
            one_grand(i);
        else if (is(command, "vfork") || is(command, "slow"))
            wait_for(make_vfork(""));
        else if (is(command, "spawn"))
            wait_for(make_spawn(""));
        else if (is(command, "clonevm"))
            wait_for(make_clone(CLONE_VM | SIGCHLD, 3, 1));
    }
    before_exec = 0;
    say("done bad=%ld", shared->bad);
}

static void map_shared(int is_new)
{
    if (is_new) {
        int file = memfd_create("family", 0);
        if (file < 0 || ftruncate(file, sizeof *shared) || dup2(file, SHARED) < 0)
            exit(3);
        if (file != SHARED)
            close(file);
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, SHARED, 0);
    if (shared == MAP_FAILED)
        exit(3);
}

int main(int argc, char **argv)
{
    /* What is read ahead would be lost by an exec. */
    setvbuf(stdin, NULL, _IONBF, 0);
    map_shared(argc == 1);
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 3;
    if (argc == 4 && !strcmp(argv[1], "leaf"))
        return leaf(atol(argv[2]), argv[3][0] != 0);
    long left = argc == 3 ? atol(argv[2]) : 0;
    if (argc == 3)
        call(7);
    if (left > 0) {
        char fewer[32];
        snprintf(fewer, sizeof fewer, "%ld", left - 1);
        replace(fewer);
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    make_life_line();
    say("ready pid=%d work=%p", getpid(), (void *)work);
    struct command command;
    while (hear(&command))
        obey(&command);
    return 0;
}
