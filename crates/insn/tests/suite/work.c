// Something to compute: recursion, calls by pointer, a switch that is a table, division, floating point. Whatever of it is run
// lies in one section; world.S may have a part.

#define WORK __attribute__((section("probed"), noinline))

enum { COUNT = 24 };

#ifdef __aarch64__
unsigned long literals(unsigned long hash);
#else
#define literals(hash) (~(hash))
#endif

WORK static int is_less(long a, long b) { return a < b; }
WORK static int is_more(long a, long b) { return (unsigned long)a > (unsigned long)b; }

WORK static void sort(long *from, long *to, int (*before)(long, long))
{
    if (to - from < 2)
        return;
    long pivot = from[(to - from) / 2], *left = from, *right = to - 1;
    while (left <= right) {
        while (before(*left, pivot))
            left++;
        while (before(pivot, *right))
            right--;
        if (left <= right) {
            long kept = *left;
            *left++ = *right;
            *right-- = kept;
        }
    }
    sort(from, right + 1, before);
    sort(left, to, before);
}

WORK static unsigned long mix(unsigned long hash, long value)
{
    switch (value & 7) {
    case 0: return hash + (unsigned long)value;
    case 1: return hash ^ (unsigned long)value << 3;
    case 2: return hash * 31;
    case 3: return hash / 7 + 1;
    case 4: return literals(hash) + 1;
    case 5: return hash >> 1 | hash << (sizeof hash * 8 - 1);
    case 6: return hash - (unsigned long)(value % 1000);
    default: return (unsigned long)(long)((double)(long)(hash >> 12) * 0.75);
    }
}

WORK unsigned long work(unsigned long seed)
{
    long numbers[COUNT];
    for (int index = 0; index < COUNT; index++)
        numbers[index] = (long)(seed = seed * 1103515245 + 12345);
    sort(numbers, numbers + COUNT, seed & 1 ? is_less : is_more);
    for (int index = 0; index < COUNT; index++)
        seed = mix(seed, numbers[index]);
    return seed;
}
