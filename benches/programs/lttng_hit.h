/* The tracepoint in lttng.c; read several times by LTTng's headers, hence the odd guard. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER xol_bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "./lttng_hit.h"

#if !defined(LTTNG_HIT_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define LTTNG_HIT_H

#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(xol_bench, hit,
    LTTNG_UST_TP_ARGS(uint64_t, a, uint64_t, b),
    LTTNG_UST_TP_FIELDS(
        lttng_ust_field_integer(uint64_t, a, a)
        lttng_ust_field_integer(uint64_t, b, b)
    )
)

#endif

#include <lttng/tracepoint-event.h>
