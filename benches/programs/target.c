/* The program that is measured. It does what it is told on stdin, one command a line, one line back:
 *
 *   run NAME CALLS   calls NAME CALLS times -> CPU time of the calls in ns, and a checksum of the results
 *   runs NAME CALLS THREADS   the same in so many threads at once -> CPU time of all, and the sum of their checksums
 *   code NAME        -> address and the first 8 bytes of the function, as it is now
 *   hits NAME        -> what the hand-written stub of NAME counted
 *
 * It patches nothing and knows nothing of probes. End of input ends it.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef uint64_t function(uint64_t, uint64_t);

#define EACH(X) X(lea) X(push) X(nop) X(nop5) X(live)
#define DECLARE(name) function name, name##_stub; extern volatile uint64_t name##_stub_hits;
EACH(DECLARE)

/* Copies of lea whose stubs, by hand, do other things than counting. */
#define PARTS(X) X(lea_jump) X(lea_locked) X(lea_time) X(lea_record) X(lea_event) X(lea_event_alone)
#define DECLARE_PART(name) function name;
PARTS(DECLARE_PART)
extern char ring[32768 * 80];

/* What is linked in where a peer needs its probe compiled in: lea once more. */
#ifdef TRACED
function traced;
#endif

static volatile uint64_t no_hits;
static const struct {
    const char *name;
    function *call;
    volatile uint64_t *hits;
} functions[] = {
#define ENTRY(name) {#name, name, &no_hits}, {#name "_stub", name##_stub, &name##_stub_hits},
    EACH(ENTRY)
#define PART(name) {#name, name, &no_hits},
    PARTS(PART)
#ifdef TRACED
    PART(traced)
#endif
};

static uint64_t cpu_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct batch {
    function *call;
    uint64_t calls, spent, sum;
};

static void *run(void *argument)
{
    struct batch *batch = argument;
    uint64_t sum = 0, start = cpu_time();
    for (uint64_t i = 0; i < batch->calls; i++)
        sum = batch->call(sum, i);
    batch->spent = cpu_time() - start;
    batch->sum = sum;
    return NULL;
}

#define MOST_THREADS 16

static void run_all(function *call, uint64_t calls, unsigned threads)
{
    struct batch batches[MOST_THREADS];
    pthread_t ids[MOST_THREADS];
    unsigned started = 0;
    uint64_t spent = 0, sum = 0;
    for (unsigned i = 0; i < threads; i++)
        batches[i] = (struct batch){ call, calls, 0, 0 };
    if (threads == 1)
        run(&batches[started++]);
    else
        while (started < threads && !pthread_create(&ids[started], NULL, run, &batches[started]))
            started++;
    for (unsigned i = 0; i < started; i++) {
        if (threads > 1)
            pthread_join(ids[i], NULL);
        spent += batches[i].spent, sum += batches[i].sum;
    }
    printf("%llu %llu\n", (unsigned long long)spent, (unsigned long long)sum);
}

int main(void)
{
    char line[256], name[64];
    setvbuf(stdout, NULL, _IOLBF, 0);
    memset(ring, 1, sizeof ring); /* no page faults later */
    while (fgets(line, sizeof line, stdin)) {
        unsigned long long calls = 0;
        unsigned threads = 1;
        char verb[16];
        int words = sscanf(line, "%15s %63s %llu %u", verb, name, &calls, &threads);
        size_t i = 0, count = sizeof functions / sizeof functions[0];
        while (words >= 2 && i < count && strcmp(functions[i].name, name) != 0)
            i++;
        if (words < 2 || i == count) {
            printf("no such function\n");
        } else if (strcmp(verb, "run") == 0) {
            run_all(functions[i].call, calls, 1);
        } else if (strcmp(verb, "runs") == 0 && threads >= 1 && threads <= MOST_THREADS) {
            run_all(functions[i].call, calls, threads);
        } else if (strcmp(verb, "code") == 0) {
            const unsigned char *code = (const unsigned char *)functions[i].call;
            printf("%llx ", (unsigned long long)(uintptr_t)code);
            for (int byte = 0; byte < 8; byte++)
                printf("%02x", ((const volatile unsigned char *)code)[byte]);
            printf("\n");
        } else if (strcmp(verb, "hits") == 0) {
            printf("%llu\n", (unsigned long long)*functions[i].hits);
        } else {
            printf("no such command\n");
        }
    }
    return 0;
}
