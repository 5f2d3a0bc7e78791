/* Runs code, writes other code to the same memory through another mapping of it, and runs that: the old code goes on where nothing
 * makes the new one visible. For arm64.
 *
 *     stale ROUTINE written|executed
 *
 * ROUTINE is code in hexadecimal digits, called with the first address and the end of what was written: as it was written to, or as
 * it is executed. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 1 << 16, RETURN = 0xd65f03c0 };

static void *map(int file, int protection)
{
	return mmap(NULL, SIZE, protection, file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, file, 0);
}

/* The given code, and a return behind it. */
static void (*routine_of(const char *digits))(uintptr_t, uintptr_t)
{
	uint8_t *code = map(-1, PROT_READ | PROT_WRITE);
	size_t size = strlen(digits) / 2;
	const uint32_t back = RETURN;
	for (size_t i = 0; i < size; i++)
		sscanf(digits + 2 * i, "%2hhx", &code[i]);
	memcpy(code + size, &back, sizeof back);
	mprotect(code, SIZE, PROT_READ | PROT_EXEC);
	return (void (*)(uintptr_t, uintptr_t))code;
}

static void write_function(uint32_t *at, uint32_t result)
{
	at[0] = 0x52800000 | result << 5; /* mov w0, #result */
	at[1] = RETURN;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	void (*publish)(uintptr_t, uintptr_t) = routine_of(argv[1]);
	int file = memfd_create("code", 0);
	if (ftruncate(file, SIZE))
		return 3;
	uint32_t *written = map(file, PROT_READ | PROT_WRITE);
	int (*executed)(void) = (int (*)(void))map(file, PROT_READ | PROT_EXEC);
	write_function(written, 11);
	int first = executed();
	write_function(written, 22);
	uintptr_t at = strcmp(argv[2], "written") ? (uintptr_t)executed : (uintptr_t)written;
	publish(at, at + 8);
	printf("over first=%d second=%d\n", first, executed());
	return 0;
}
