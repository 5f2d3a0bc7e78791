/*
 * Shows: a 64-bit process one of whose threads runs in the 32-bit code segment, as Wine has them.
 *
 *   enter   the first thread goes there  -> inside
 *   leave   and comes back               -> outside
 *   calls N   calls work N times         -> done bad=
 * The program must be linked at a fixed position: 32-bit code reaches 4 GiB only.
 */
#include "work.h"
#include <pthread.h>

extern volatile int is_over, has_entered;
void run_in_32_bits(void);

/* The other mode cuts the stack pointer to 32 bits, and does not use it here; data are reached through its segment, since there is no other. */
__asm__(".pushsection .text\n"
        ".globl run_in_32_bits\n.type run_in_32_bits, @function\n"
        "run_in_32_bits:\n"
        " mov %rsp, stack(%rip)\n sub $8, %rsp\n movl $0x23, 4(%rsp)\n movl $1f, (%rsp)\n lret\n"
        ".code32\n"
        "1: movl $1, %ss:has_entered\n"
        "2: pause\n cmpl $0, %ss:is_over\n je 2b\n"
        " ljmp $0x33, $3f\n"
        ".code64\n"
        "3: mov stack(%rip), %rsp\n ret\n"
        ".size run_in_32_bits, . - run_in_32_bits\n"
        ".popsection\n"
        ".pushsection .bss\n.globl is_over, has_entered\n.balign 8\nstack: .skip 8\nis_over: .skip 4\nhas_entered: .skip 4\n.popsection\n");

static volatile int shall_enter;

static void *serve(void *argument)
{
    struct command command;
    while (hear(&command)) {
        if (is(&command, "enter")) {
            is_over = 0, shall_enter = 1;
            while (!has_entered)
                usleep(100);
            say("inside");
        } else if (is(&command, "leave")) {
            is_over = 1;
            while (shall_enter)
                usleep(100);
            say("outside");
        } else {
            word bad = 0;
            for (word i = 0; i < command.number; i++)
                bad += work((long)i, 1) != expect_work((long)i, 1);
            say("done bad=%lu", bad);
        }
    }
    exit(0);
    return argument;
}

int main(void)
{
    pthread_t thread;
    say("ready pid=%d work=%p", getpid(), (void *)work);
    pthread_create(&thread, NULL, serve, NULL);
    for (;;) {
        while (!shall_enter)
            usleep(100);
        run_in_32_bits();
        has_entered = 0, shall_enter = 0;
    }
}
