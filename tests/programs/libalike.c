/*
 * A library to be loaded first, so that a program of one thread does the same wherever it runs, under valgrind too:
 *
 * - Objects are hashed by their addresses, and the break and mappings are elsewhere there: malloc takes from one mapping at
 *   a fixed address. So do the strings of arguments and environment, which are read by words where they are aligned.
 * - The thread's identity is a key as well: it is a constant.
 * - valgrind keeps the last signal to itself, and says nothing of the size of a signal's frame: neither is there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define START 0x800000000UL
#define LEN (256UL << 20)
/* Bytes in front of each block: which of the lists it belongs to. */
#define HEAD 16
#define LISTS 32

static char *next;
/* Free blocks of two to the power of the index, the head included. */
static void *lists[LISTS];

static size_t list_of(size_t size)
{
    size_t list = 5;
    while (size + HEAD > 1UL << list) list++;
    return list;
}

static size_t *head(void *block) { return (size_t *)((char *)block - HEAD); }

void *malloc(size_t size)
{
    size_t list = size < LEN ? list_of(size) : LISTS;
    if (!next) {
        void *got = mmap((void *)START, LEN, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (got != (void *)START) abort();
        next = got;
    }
    if (list >= LISTS) goto full;
    void *block = lists[list];
    if (block) {
        lists[list] = *(void **)block;
        return block;
    }
    if ((size_t)(next - (char *)START) + (1UL << list) > LEN) goto full;
    block = next + HEAD;
    next += 1UL << list;
    *head(block) = list;
    return block;
full:
    errno = ENOMEM;
    return NULL;
}

void free(void *block)
{
    if (!block) return;
    size_t list = *head(block);
    *(void **)block = lists[list];
    lists[list] = block;
}

void *calloc(size_t count, size_t size)
{
    size_t all;
    if (__builtin_mul_overflow(count, size, &all)) all = SIZE_MAX;
    void *block = malloc(all);
    return block ? memset(block, 0, all) : NULL;
}

void *realloc(void *old, size_t size)
{
    if (!old) return malloc(size);
    size_t room = (1UL << *head(old)) - HEAD;
    if (size <= room) return old;
    void *block = malloc(size);
    if (block) {
        memcpy(block, old, room);
        free(old);
    }
    return block;
}

__attribute__((constructor)) static void copy_strings(int argc, char **argv, char **env)
{
    (void)argc;
    for (; *argv; argv++) *argv = strdup(*argv);
    for (; *env; env++) *env = strdup(*env);
}

unsigned long pthread_self(void) { return START; }

int sigaction(int signal, const struct sigaction *new, struct sigaction *old)
{
    int (*libcs)(int, const struct sigaction *, struct sigaction *) = dlsym(RTLD_NEXT, "sigaction");
    if (signal != SIGRTMAX) return libcs(signal, new, old);
    errno = EINVAL;
    return -1;
}

unsigned long getauxval(unsigned long type)
{
    unsigned long (*libcs)(unsigned long) = dlsym(RTLD_NEXT, "getauxval");
    return type == AT_MINSIGSTKSZ ? 0 : libcs(type);
}
