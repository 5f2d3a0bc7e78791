/* Calls functions a known number of times and says what came out: for targets behind a GDB stub, which need not read anything.
 *
 *     counted ROUNDS [THREADS [MICROSECONDS]]
 *
 * `hash` and `sort` compute something whose every instruction matters; `tick` is called ROUNDS times by each thread; its first
 * argument counts up, its second is three times that. With MICROSECONDS a timer's signal comes so often; its handler looks whether
 * it interrupted the program's own code, which a static program is all of. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile unsigned long bad;

__attribute__((noinline, noclone)) unsigned long tick(unsigned long a, unsigned long b)
{
	if (b != 3 * a)
		bad++;
	return a ^ (b << 3);
}

__attribute__((noinline, noclone)) unsigned hash(const unsigned char *bytes, unsigned len)
{
	static const unsigned salt[4] = {0x9e3779b9u, 0x85ebca6bu, 0xc2b2ae35u, 0x27d4eb2fu};
	unsigned h = 2166136261u ^ len;
	for (unsigned i = 0; i < len; i++) {
		h ^= bytes[i];
		h *= 16777619u;
		switch (bytes[i] % 5) {
		case 0: h = (h << 7) | (h >> 25); break;
		case 1: h += salt[i % 4]; break;
		case 2: h ^= h >> 13; break;
		case 3: h = ~h; break;
		default: h -= i * salt[(i + 1) % 4]; break;
		}
	}
	return h ? h : hash(bytes, len / 2);
}

__attribute__((noinline, noclone)) void sort(int *from, int *to)
{
	while (to - from > 1) {
		int pivot = from[(to - from) / 2], *low = from, *high = to - 1;
		while (low <= high) {
			while (*low < pivot)
				low++;
			while (*high > pivot)
				high--;
			if (low <= high) {
				int other = *low;
				*low++ = *high;
				*high-- = other;
			}
		}
		sort(from, high + 1);
		from = low;
	}
}

static unsigned long rounds;

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
	unsigned long total = 0;
	for (unsigned long i = 0; i < rounds; i++)
		total += tick(i, 3 * i);
	*(unsigned long *)sum = total;
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
	unsigned char bytes[64];
	int numbers[40], in_order = 1;
	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)(i * 37 + 11);
	for (int i = 0; i < 40; i++)
		numbers[i] = (i * 7919) % 101 - 50;
	sort(numbers, numbers + 40);
	for (int i = 1; i < 40; i++)
		in_order &= numbers[i - 1] <= numbers[i];
	unsigned long sum = 0;
	for (int i = 0; i < threads; i++)
		sum += sums[i];
	unsigned hashed = hash(bytes, sizeof bytes);
	printf("over calls=%lu sum=%lu hash=%#x in_order=%d bad=%lu alarms=%lu elsewhere=%lu\n", rounds * threads, sum,
	       hashed, in_order, bad, alarms, elsewhere);
	return 0;
}
