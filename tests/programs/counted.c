/* Calls functions a known number of times and says what came out: for targets behind a GDB stub, which need not read anything.
 *
 *     counted ROUNDS [THREADS [MICROSECONDS]]
 *
 * `hash` and `sort` compute something whose every instruction matters; `tick` is called ROUNDS times by each thread. With
 * MICROSECONDS a timer's signal comes so often; its handler looks whether it interrupted the program's own code, which a static
 * program is all of. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "counted.h"

#if defined(__x86_64__)
#define PC(context) ((context)->uc_mcontext.gregs[REG_RIP])
#elif defined(__i386__)
#define PC(context) ((context)->uc_mcontext.gregs[REG_EIP])
#elif defined(__aarch64__)
#define PC(context) ((context)->uc_mcontext.pc)
#elif defined(__arm__)
#define PC(context) ((context)->uc_mcontext.arm_pc)
#elif defined(__riscv)
#define PC(context) ((context)->uc_mcontext.__gregs[0])
#elif defined(__alpha__)
#define PC(context) ((context)->uc_mcontext.sc_pc)
#elif defined(__mips__)
#define PC(context) ((context)->uc_mcontext.pc)
#elif defined(__sparc__)
/* A handler's third argument is no ucontext_t there (`setup_rt_frame`, arch/sparc/kernel/signal_64.c). */
#define PC(context) (((struct sigcontext *)(context))->sigc_regs.tpc)
#elif defined(__s390x__)
#define PC(context) ((context)->uc_mcontext.psw.addr)
#elif defined(__powerpc64__)
#define PC(context) ((context)->uc_mcontext.gp_regs[32])
#else
#define PC(context) ((context)->uc_mcontext.uc_regs->gregs[32])
#endif

extern char __executable_start, etext;
static volatile unsigned long alarms, elsewhere;

static void alarmed(int signal, siginfo_t *info, void *context)
{
	unsigned long pc = (unsigned long)PC((ucontext_t *)context);
	(void)signal, (void)info;
	alarms++;
	if (pc < (unsigned long)&__executable_start || pc >= (unsigned long)&etext)
		elsewhere++;
}

static void alarm_every(int microseconds)
{
	struct sigaction action = {.sa_sigaction = alarmed, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct itimerval timer = {{0, microseconds}, {0, microseconds}};
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

static void *run(void *sum)
{
	*(unsigned long *)sum = ticks();
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 2 ? atoi(argv[2]) : 1;
	unsigned long sums[16] = {0};
	pthread_t others[16];
	if (argc > 3)
		alarm_every(atoi(argv[3]));
	rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 10;
	for (int i = 1; i < threads; i++)
		pthread_create(&others[i], NULL, run, &sums[i]);
	run(&sums[0]);
	for (int i = 1; i < threads; i++)
		pthread_join(others[i], NULL);
	int is_in_order = in_order();
	unsigned long sum = 0;
	for (int i = 0; i < threads; i++)
		sum += sums[i];
	printf("over calls=%lu sum=%lu hash=%#x in_order=%d bad=%lu alarms=%lu elsewhere=%lu\n", rounds * threads, sum,
	       hashed(), is_in_order, bad, alarms, elsewhere);
	return 0;
}
