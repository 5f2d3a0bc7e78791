/* What `counted.c` does with one thread and no timer, without a C library: for machines whose library qemu-user does not run.
 *
 *     alone ROUNDS
 */
#include "counted.h"

#if defined(__sh__)
enum { EXIT = 1, WRITE = 4 };

/* Arguments are at the top of the stack. */
__asm__(".globl _start\n"
	"_start:\n"
	"	mov.l	@r15, r4\n"
	"	mov	r15, r5\n"
	"	mov.l	1f, r0\n"
	"	jmp	@r0\n"
	"	 add	#4, r5\n"
	"	.balign	4\n"
	"1:	.long	start\n");

static long system_call(long number, long first, long second, long third)
{
	register long result __asm__("r0");
	register long r3 __asm__("r3") = number;
	register long r4 __asm__("r4") = first;
	register long r5 __asm__("r5") = second;
	register long r6 __asm__("r6") = third;
	__asm__ volatile("trapa #0x13" : "=r"(result) : "r"(r3), "r"(r4), "r"(r5), "r"(r6) : "memory");
	return result;
}
#elif defined(__sparc__)
enum { EXIT = 1, WRITE = 4 };

/* Arguments are behind the place for a window's registers. */
__asm__(".globl _start\n"
	"_start:\n"
	"	ld	[%sp + 64], %o0\n"
	"	call	start\n"
	"	 add	%sp, 68, %o1\n");

static long system_call(long number, long first, long second, long third)
{
	register long g1 __asm__("g1") = number;
	register long o0 __asm__("o0") = first;
	register long o1 __asm__("o1") = second;
	register long o2 __asm__("o2") = third;
	__asm__ volatile("ta 0x10" : "+r"(o0) : "r"(g1), "r"(o1), "r"(o2) : "memory", "cc");
	return o0;
}
#endif

static void say(const char *text)
{
	long length = 0;
	while (text[length])
		length++;
	system_call(WRITE, 1, (long)text, length);
}

static void say_number(const char *name, unsigned long number)
{
	char digits[24], *first = digits + sizeof digits - 1;
	*first = 0;
	do {
		*--first = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	say(name);
	say(first);
}

static unsigned long read_number(const char *text)
{
	unsigned long number = 0;
	while (*text)
		number = number * 10 + (unsigned long)(*text++ - '0');
	return number;
}

__attribute__((noreturn, used)) static void start(int argc, char **argv)
{
	rounds = argc > 1 ? read_number(argv[1]) : 10;
	unsigned long sum = ticks();
	say_number("over calls=", rounds);
	say_number(" sum=", sum);
	say_number(" in_order=", (unsigned long)in_order());
	say_number(" hash=", hashed());
	say_number(" bad=", bad);
	say("\n");
	for (;;)
		system_call(EXIT, 0, 0, 0);
}
