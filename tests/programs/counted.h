/* What `counted.c` and `alone.c` compute: `hash` and `sort`, whose every instruction matters, and `tick`, whose first argument counts
 * up and whose second is three times that. Nothing of a library. */

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

/* The hash of some bytes. */
static unsigned hashed(void)
{
	unsigned char bytes[64];
	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)(i * 37 + 11);
	return hash(bytes, sizeof bytes);
}

/* Whether some numbers are in order when they are sorted. */
static int in_order(void)
{
	int numbers[40], is_in_order = 1;
	for (int i = 0; i < 40; i++)
		numbers[i] = (i * 7919) % 101 - 50;
	sort(numbers, numbers + 40);
	for (int i = 1; i < 40; i++)
		is_in_order &= numbers[i - 1] <= numbers[i];
	return is_in_order;
}

static unsigned long rounds;

/* As many calls as there are rounds; what they gave in all. */
static unsigned long ticks(void)
{
	unsigned long total = 0;
	for (unsigned long i = 0; i < rounds; i++)
		total += tick(i, 3 * i);
	return total;
}
