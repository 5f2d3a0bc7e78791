/*
 * What all test programs share: the protocol.
 *
 * A program prints one line `ready pid=N name=0xADDRESS ...`, then obeys one command a line on stdin and answers each
 * with one line `word key=value ...`. At the end of stdin it ends, so it never outlives the test that started it.
 * Programs count their own calls, each thread in a counter that nobody else writes.
 */
#ifndef XOL_TESTS_COMMON_H
#define XOL_TESTS_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>

typedef unsigned long word;

/* The registers that a handler finds in its context; REG_FIRST is the argument of a FIRST_IN_REGISTER function. */
#ifdef __i386__
#define REG_PC REG_EIP
#define REG_STACK REG_ESP
#define REG_DI REG_EDI
#define REG_SI REG_ESI
#define REG_FIRST REG_EAX
#define FIRST_IN_REGISTER __attribute__((regparm(1)))
#else
#define REG_PC REG_RIP
#define REG_STACK REG_RSP
#define REG_DI REG_RDI
#define REG_SI REG_RSI
#define REG_FIRST REG_RDI
#define FIRST_IN_REGISTER
#endif

#define NOINLINE __attribute__((noinline, noclone))
#define MAYBE_UNUSED __attribute__((unused))

/* One line to the test. */
MAYBE_UNUSED __attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

/* The next command: its word, its number (0 if none) and its text behind the first blank. 0 at the end of stdin. */
struct command {
    char line[512];
    word number;
    char *text;
};

MAYBE_UNUSED static int hear(struct command *command)
{
    if (!fgets(command->line, sizeof command->line, stdin))
        return 0;
    command->line[strcspn(command->line, "\n")] = 0;
    command->text = strchr(command->line, ' ');
    if (command->text)
        *command->text++ = 0;
    else
        command->text = command->line + strlen(command->line);
    command->number = strtoul(command->text, NULL, 0);
    return strcmp(command->line, "quit") != 0;
}

MAYBE_UNUSED static int is(const struct command *command, const char *name)
{
    return strcmp(command->line, name) == 0;
}

MAYBE_UNUSED static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Marsaglia's xorshift: reproducible inputs, the same in every run. */
MAYBE_UNUSED static word next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (word)*state;
}

#endif
