/* The functions of work.S, and what they must answer. */
#ifndef XOL_TESTS_WORK_H
#define XOL_TESTS_WORK_H
#include "common.h"

long work(long a, long b);
long neighbour(long a);
long tiny(long a);
long trapped(long a);
extern const char trapped_site[];
long enter_work_inside(long a, long b, const char *inside);

static inline long expect_work(long a, long b) { return 3 * (a + b + 7); }
static inline long expect_neighbour(long a) { return a ^ 0x55; }
static inline long expect_tiny(long a) { return a + 1; }
static inline long expect_trapped(long a) { return (long)(uint32_t)a + 4; }

#endif
