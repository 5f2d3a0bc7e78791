/* Instructions of mips that fault, and what their handlers see; branches by what is in no general register.
 *
 *     faulting ROUNDS
 *
 * `trapping` raises SIGTRAP by an instruction that is no breakpoint; `delayed` a fault in the delay slot of a call, which is
 * reported at the call, when the return address is there already; `between` compares numbers of floating point. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

void trapping(void);
void delayed(void);
extern char trap_here[], call_here[], behind_call[];

__asm__("	.set	push\n"
	"	.set	noreorder\n"
	"	.globl	trapping, delayed, trap_here, call_here, behind_call\n"
	"	.type	trapping, @function\n"
	"trapping:\n"
	"trap_here: teq	$0, $0, 0x11\n"
	"	jr	$31\n"
	"	nop\n"
	"	.size	trapping, . - trapping\n"
	"	.type	delayed, @function\n"
	"delayed: move	$8, $31\n"
	"call_here: bal	1f\n"
	"	lw	$9, 4($0)\n"
	"	nop\n"
	"behind_call: move $31, $8\n"
	"1:	jr	$31\n"
	"	nop\n"
	"	.size	delayed, . - delayed\n"
	"	.set	pop\n");

static volatile unsigned long traps, faults, bad;

static void trapped(int signal, siginfo_t *info, void *context)
{
	mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
	(void)signal, (void)info;
	traps++;
	if (machine->pc != (unsigned long)trap_here)
		bad++;
	machine->pc = (unsigned long)trap_here + 4;
}

static void faulted(int signal, siginfo_t *info, void *context)
{
	mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
	(void)signal, (void)info;
	faults++;
	if (machine->pc != (unsigned long)call_here || machine->gregs[31] != (unsigned long)call_here + 8)
		bad++;
	machine->pc = (unsigned long)behind_call;
}

__attribute__((noinline, noclone)) unsigned long between(const double *numbers, int count, double low, double high)
{
	unsigned long found = 0;
	for (int i = 0; i < count; i++) {
		if (numbers[i] < low)
			found += 1;
		else if (numbers[i] <= high)
			found += numbers[i] == low ? 10000 : 100;
		else
			found ^= 1;
	}
	return found;
}

int main(int argc, char **argv)
{
	struct sigaction trap = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
	struct sigaction fault = {.sa_sigaction = faulted, .sa_flags = SA_SIGINFO};
	int rounds = argc > 1 ? atoi(argv[1]) : 1;
	double numbers[20];
	sigaction(SIGTRAP, &trap, NULL);
	sigaction(SIGSEGV, &fault, NULL);
	for (int i = 0; i < 20; i++)
		numbers[i] = (i * 7) % 20;
	for (int i = 0; i < rounds; i++) {
		trapping();
		delayed();
	}
	printf("over traps=%lu faults=%lu found=%lu bad=%lu\n", traps, faults, between(numbers, 20, 5, 12), bad);
	return 0;
}
