/*
 * Shows: a restartable sequence (rseq(2)): counters of each CPU, added to without a lock prefix. The kernel takes a thread
 * that it preempts within the sequence to the abort handler, by its program counter alone; so nothing of the sequence may
 * run elsewhere, and the four bytes before the abort handler are a signature that the kernel compares.
 *
 *   add N  four threads add one to their CPU's counter N times each -> done sum= aborts=
 * The first line has add=, start=, end= and abort=, or only supported=0.
 */
#include "common.h"
#include <pthread.h>
#include <stdatomic.h>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#define HAS_RSEQ 1
#else
#define HAS_RSEQ 0
#endif

#define THREADS 4
#define CPUS 1024

static struct { long count; char rest[56]; } counters[CPUS];
static atomic_ulong aborts;

#if HAS_RSEQ
/* long add_one(struct rseq *area, void *counters): 0 if it was done, 1 if it was aborted. */
__asm__(
    ".pushsection __rseq_cs, \"aw\"\n.balign 32\ndescriptor:\n"
    "    .long 0, 0\n    .quad add_start, add_end - add_start, add_abort\n.popsection\n"
    ".text\n.balign 16\n.globl add_one\n.type add_one, @function\nadd_one:\n"
    "    lea descriptor(%rip), %rax\n"
    "    mov %rax, 8(%rdi)\n" /* rseq_cs */
    ".globl add_start\nadd_start:\n"
    "    mov 4(%rdi), %eax\n" /* cpu_id */
    "    shl $6, %rax\n"
    "    mov (%rsi, %rax), %rdx\n"
    "    lea 1(%rdx), %rdx\n"
    "    mov %rdx, (%rsi, %rax)\n"
    ".globl add_end\nadd_end:\n"
    "    xor %eax, %eax\n"
    "    ret\n"
    "    .byte 0x0f, 0xb9, 0x3d\n    .long 0x53053053\n" /* ud1 with the signature as its displacement */
    ".globl add_abort\nadd_abort:\n"
    "    mov $1, %eax\n"
    "    ret\n"
    ".size add_one, . - add_one\n");
extern const char add_start[], add_end[], add_abort[];
long add_one(struct rseq *area, void *counters);

static struct rseq *area(void)
{
    return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void *adder(void *argument)
{
    word failed = 0;
    for (word n = (word)argument; n; n--)
        while (add_one(area(), counters))
            failed++;
    aborts += failed;
    return NULL;
}
#endif

int main(void)
{
#if HAS_RSEQ
    if (!__rseq_size || (int)area()->cpu_id < 0) {
        say("ready pid=%d supported=0", getpid());
        return 0;
    }
    say("ready pid=%d supported=1 add=%p start=%p end=%p abort=%p", getpid(), (void *)add_one, (const void *)add_start,
        (const void *)add_end, (const void *)add_abort);
    struct command command;
    while (hear(&command)) {
        pthread_t threads[THREADS];
        long sum = 0;
        aborts = 0;
        memset(counters, 0, sizeof counters);
        for (int i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, adder, (void *)command.number);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < CPUS; i++)
            sum += counters[i].count;
        say("done sum=%ld aborts=%lu", sum, aborts);
    }
#else
    say("ready pid=%d supported=0", getpid());
#endif
    return 0;
}
