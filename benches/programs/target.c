/* The program that is measured. One thread; it does what it is told on stdin, one command a line, one line back:
 *
 *   run NAME CALLS CHUNK PAUSE   calls NAME CALLS times, sleeping PAUSE us after each CHUNK calls
 *                                -> CPU time of the calls alone in ns, and a checksum of the results
 *   code NAME                    -> address and the first 8 bytes of the function, as it is now
 *   hits NAME                    -> what the hand-written stub of NAME counted
 *
 * It patches nothing and knows nothing of probes. End of input ends it.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t function(uint64_t, uint64_t);

#define EACH(X) X(lea) X(push) X(nop) X(nop5)
#define DECLARE(name) function name, name##_stub; extern volatile uint64_t name##_stub_hits;
EACH(DECLARE)

static volatile uint64_t no_hits;
static const struct {
    const char *name;
    function *call;
    volatile uint64_t *hits;
} functions[] = {
#define ENTRY(name) {#name, name, &no_hits}, {#name "_stub", name##_stub, &name##_stub_hits},
    EACH(ENTRY)
};

static uint64_t cpu_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void run(function *call, uint64_t calls, uint64_t chunk, useconds_t pause)
{
    uint64_t spent = 0, sum = 0;
    for (uint64_t done = 0; done < calls;) {
        uint64_t count = calls - done < chunk ? calls - done : chunk;
        uint64_t start = cpu_time();
        for (uint64_t i = 0; i < count; i++)
            sum = call(sum, i);
        spent += cpu_time() - start;
        done += count;
        if (pause)
            usleep(pause);
    }
    printf("%llu %llu\n", (unsigned long long)spent, (unsigned long long)sum);
}

int main(void)
{
    char line[256], name[64];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        unsigned long long calls = 0, chunk = 1;
        unsigned pause = 0;
        char verb[16];
        int words = sscanf(line, "%15s %63s %llu %llu %u", verb, name, &calls, &chunk, &pause);
        size_t i = 0, count = sizeof functions / sizeof functions[0];
        while (words >= 2 && i < count && strcmp(functions[i].name, name) != 0)
            i++;
        if (words < 2 || i == count) {
            printf("no such function\n");
        } else if (strcmp(verb, "run") == 0 && chunk > 0) {
            run(functions[i].call, calls, chunk, pause);
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
