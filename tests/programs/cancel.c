/*
 * Shows: a handler that asks whether its thread was in a system call, by the program counter it interrupted. C libraries
 * cancel threads like this: glibc from 2.41 on (`__syscall_cancel_arch_start` to `_end`), musl always (`__cp_begin` to
 * `__cp_end`). In between, the call has had no effect yet and may be given up; behind it, its result must be kept.
 *
 *   cancel N  N times: a thread blocks in read(2), gets a signal there and gives the read up
 *             -> done cancelled= elsewhere= stuck=
 * The signal comes mostly while the thread sleeps in the read, now and then at any moment before. `cancelled` are the reads
 * given up, `elsewhere` the handlers that found a sleeping thread outside its call, `stuck` the reads that nobody gave up.
 */
#include "common.h"
#include <pthread.h>
#include <signal.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <ucontext.h>

/* long cancellable_read(int fd, void *buffer, size_t size, const int *flag): -ECANCELED if it is given up. */
__asm__(
    ".text\n.balign 16\n.globl cancellable_read\n.type cancellable_read, @function\ncancellable_read:\n"
    "    mov %rcx, %r8\n"
    ".globl cancellable_start\ncancellable_start:\n"
    "    cmpl $0, (%r8)\n"
    "    jne cancellable_give_up\n"
    "    xor %eax, %eax\n"
    "    syscall\n"
    ".globl cancellable_end\ncancellable_end:\n"
    "    ret\n"
    ".globl cancellable_give_up\ncancellable_give_up:\n"
    "    mov $-125, %rax\n"
    "    ret\n"
    ".size cancellable_read, . - cancellable_read\n");
extern const char cancellable_start[], cancellable_end[], cancellable_give_up[];
long cancellable_read(int fd, void *buffer, size_t size, const int *flag);

#define PATIENCE 60000000000ul

static atomic_int flag, thread_id, is_asleep;
static atomic_ulong elsewhere, events;
static int data[2], begin[2];
static word cancelled;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    word pc = (word)registers[REG_RIP];
    (void)signal, (void)info;
    if (pc >= (word)cancellable_start && pc < (word)cancellable_end)
        registers[REG_RIP] = (greg_t)cancellable_give_up;
    else
        elsewhere += (word)is_asleep;
    events++;
}

/* For each byte on one pipe, reads from the other what never comes. */
static void *reader(void *unused)
{
    char byte;
    (void)unused;
    thread_id = (int)syscall(SYS_gettid);
    while (read(begin[0], &byte, 1) == 1) {
        cancelled += cancellable_read(data[0], &byte, 1, (const int *)&flag) == -ECANCELED;
        flag = 0;
        events++;
    }
    return NULL;
}

/* The kernel says that the thread sleeps. */
static int sleeps(void)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread_id);
    FILE *file = fopen(path, "r");
    if (file) {
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
    }
    char *state = strrchr(text, ')');
    return state && state[2] == 'S';
}

/* It took its byte, so it sleeps in the second read. */
static void wait_until_it_sleeps(void)
{
    int left;
    do {
        sched_yield();
        left = 1;
        ioctl(begin[0], FIONREAD, &left);
    } while (left || !sleeps());
}

/* The handler ran and the read is over; 0 if it took too long, and then it is helped along. */
static int wait_until_it_is_over(void)
{
    word deadline = nanoseconds() + PATIENCE;
    while (events < 2 && nanoseconds() < deadline)
        sched_yield();
    int in_time = events == 2;
    if (!in_time && write(data[1], "", 1) == 1)
        while (events < 2)
            sched_yield();
    return in_time;
}

int main(void)
{
    pthread_t thread;
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGUSR1, &action, NULL);
    if (pipe(data) || pipe(begin) || pthread_create(&thread, NULL, reader, NULL))
        return 1;
    while (!thread_id || !sleeps())
        sched_yield();
    say("ready pid=%d read=%p", getpid(), (void *)cancellable_read);
    struct command command;
    word seed = 88172645463325252ul;
    while (hear(&command)) {
        word stuck = 0;
        elsewhere = cancelled = 0;
        for (word n = 0; n < command.number; n++) {
            events = 0;
            if (write(begin[1], "", 1) != 1)
                return 1;
            is_asleep = next_random(&seed) % 8 != 0;
            if (is_asleep)
                wait_until_it_sleeps();
            else
                for (word spin = next_random(&seed) % 8192; spin; spin--)
                    __asm__ volatile("pause");
            flag = 1;
            pthread_kill(thread, SIGUSR1);
            stuck += !wait_until_it_is_over();
        }
        say("done cancelled=%lu elsewhere=%lu stuck=%lu", cancelled, elsewhere, stuck);
    }
    return 0;
}
