/*
 * Shows: `int` in a 64-bit program. By `int $0x80` it makes 32-bit system calls, which leave rcx and r11 alone; any other
 * number faults where it stands.
 *
 *   calls N  -> calls calls=N bad= faults= elsewhere=     the handler of a fault steps over the instruction
 *   naps N   -> naps naps=N bad= short=                   sleeps of 20 ms in the 32-bit nanosleep
 * The first line has compat=1 where the kernel lets the program make such calls.
 */
#include "common.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>

#define NAP 20000000u

/* What `site_call` gives, plus what it changed of rcx and r11. */
long compat_call(long number, void *argument);
/* Executes `int $0x81` at `site_fault`. */
long faulty(long value);
extern const char site_call[], site_fault[];
__asm__(".balign 16\n"
        ".globl compat_call, faulty, site_call, site_fault\n"
        ".type compat_call, @function\n"
        "compat_call:\n"
        "  push %rbx\n"
        "  mov %edi, %eax\n"
        "  mov %esi, %ebx\n"
        "  mov $0x1234, %ecx\n"
        "  xor %ecx, %ecx\n"
        "  mov $0x5678, %r11d\n"
        "site_call:\n"
        "  int $0x80\n"
        "  cltq\n"
        "  add %rcx, %rax\n"
        "  sub $0x5678, %r11\n"
        "  add %r11, %rax\n"
        "  pop %rbx\n"
        "  ret\n"
        ".size compat_call, . - compat_call\n"
        ".balign 16\n"
        ".type faulty, @function\n"
        "faulty:\n"
        "  lea 1(%rdi), %rax\n"
        "site_fault:\n"
        "  int $0x81\n"
        "  nop\n"
        "  nop\n"
        "  nop\n"
        "  ret\n"
        ".size faulty, . - faulty\n");

static volatile word faults, elsewhere;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    (void)signal;
    faults++;
    elsewhere += info->si_addr != NULL || frame->uc_mcontext.gregs[REG_RIP] != (greg_t)site_fault;
    frame->uc_mcontext.gregs[REG_RIP] += 2;
}

/* Whether the kernel has 32-bit system calls: a child tries. */
static int has_compat(void)
{
    pid_t child = fork();
    int status = 0;
    if (child == 0)
        _exit(compat_call(20, NULL) != getpid());
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    int compat = has_compat();
    /* Two words of 32 bits, where 32 bits name them. */
    uint32_t *nap = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    struct command command;
    sigaction(SIGSEGV, &action, NULL);
    say("ready pid=%d compat=%d site_call=%p site_fault=%p", getpid(), compat, (void *)site_call, (void *)site_fault);
    while (hear(&command)) {
        word bad = 0, too_short = 0, before = faults;
        for (word n = 0; n < command.number; n++) {
            if (is(&command, "naps")) {
                uint64_t began = nanoseconds();
                nap[0] = 0;
                nap[1] = NAP;
                bad += compat_call(162, nap) != 0;
                too_short += nanoseconds() - began < NAP;
            } else {
                bad += compat_call(20, NULL) != getpid();
                bad += faulty((long)n) != (long)n + 1;
            }
        }
        if (is(&command, "naps"))
            say("naps naps=%lu bad=%lu short=%lu", command.number, bad, too_short);
        else
            say("calls calls=%lu bad=%lu faults=%lu elsewhere=%lu", command.number, bad, faults - before, elsewhere);
    }
    return 0;
}
