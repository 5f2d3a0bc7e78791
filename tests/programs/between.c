/* Faults at an instruction, between a branch and where it goes, and behind a `return`, for sparc64. Its handler looks where PC and nPC
 * are, counted from the function's start, and has the access repeated where something is. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

unsigned long faults_plainly(long nowhere), faults_in_branch(long nowhere), faults_in_call(long nowhere),
	faults_in_return(long nowhere);

/* Each finds its memory by %g4. */
__asm__(".text\n"
	"	.globl	faults_plainly, faults_in_branch, faults_in_call, faults_in_return\n"
	"	.type	faults_plainly, #function\n"
	"faults_plainly:\n"
	"	mov	%o0, %g4\n"
	"	ldx	[%g4], %o0\n"
	"	retl\n"
	"	 add	%o0, 1, %o0\n"
	"	.size	faults_plainly, . - faults_plainly\n"
	"	.type	faults_in_branch, #function\n"
	"faults_in_branch:\n"
	"	mov	%o0, %g4\n"
	"	brz,a,pt %o0, 1f\n"
	"	 ldx	[%g4], %o0\n"
	"	unimp	0\n"
	"1:	retl\n"
	"	 add	%o0, 2, %o0\n"
	"	.size	faults_in_branch, . - faults_in_branch\n"
	"	.type	faults_in_call, #function\n"
	"faults_in_call:\n"
	"	save	%sp, -176, %sp\n"
	"	mov	%i0, %g4\n"
	"	call	1f\n"
	"	 ldx	[%g4], %i0\n"
	"	ret\n"
	"	 restore %i0, 3, %o0\n"
	"1:	retl\n"
	"	 nop\n"
	"	.size	faults_in_call, . - faults_in_call\n"
	"	.type	faults_in_return, #function\n"
	"faults_in_return:\n"
	"	save	%sp, -176, %sp\n"
	"	mov	%i0, %g4\n"
	"	return	%i7 + 8\n"
	"	 ldx	[%g4], %o0\n"
	"	.size	faults_in_return, . - faults_in_return\n");

static unsigned long pc, npc, o7;
static unsigned long number = 1000;

static void handle(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	struct sigcontext *saved = context; /* `setup_rt_frame`, arch/sparc/kernel/signal_64.c */
	pc = saved->sigc_regs.tpc;
	npc = saved->sigc_regs.tnpc;
	o7 = saved->sigc_regs.u_regs[15];
	saved->sigc_regs.u_regs[4] = (unsigned long)&number;
}

/* Counted from the start, or 0 where it is far away. */
static unsigned long inside(unsigned long at, unsigned long start)
{
	return at - start < 64 ? at - start : 0;
}

static void show(const char *name, unsigned long (*function)(long))
{
	unsigned long found = function(0), start = (unsigned long)function;
	printf(" %s=%lu %s_pc=%lu %s_npc=%lu %s_link=%lu", name, found, name, inside(pc, start), name, inside(npc, start), name,
	       inside(o7, start));
}

int main(void)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_sigaction = handle;
	action.sa_flags = SA_SIGINFO;
	sigaction(SIGSEGV, &action, NULL);
	printf("over");
	show("plain", faults_plainly);
	show("branch", faults_in_branch);
	show("call", faults_in_call);
	show("return", faults_in_return);
	printf("\n");
	return 0;
}
