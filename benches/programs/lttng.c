/* `lea` of functions.S with a tracepoint of LTTng-UST's at its entry. */
#include <stdint.h>

#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_hit.h"

uint64_t traced(uint64_t a, uint64_t b);

uint64_t traced(uint64_t a, uint64_t b)
{
    lttng_ust_tracepoint(xol_bench, hit, a, b);
    return a + 8 + b;
}
