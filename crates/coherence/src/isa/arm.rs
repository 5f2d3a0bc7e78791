//! arm, 32-bit.
//!
//! Five kinds. v5: data and instruction caches virtually tagged, so the kernel writes back and empties both whenever it
//! changes address spaces; one CPU. v6 with aliases: lines of two colours of one page are strangers to each other. v7:
//! operations by address are broadcast. ARM11 MPCore: they are not, and only the kernel can interrupt the other CPUs.
//! Programs have no instructions for caches, only the system call `cacheflush`.
//!
//! On v6 with aliases the kernel's care for a debugger's write cleans the program's colour, while the copy went through
//! the kernel's own. What brings the bytes out is the next look at the page: `get_user_pages` cleans the kernel's mapping
//! of it. So there the writer reads back what it wrote. (By reading the kernel; no such machine was at hand.)

use crate::cache::{
    Aliasing, Allowed, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect,
    Finds, Index, InstructionCache, KernelExit, Kernels, Mapping, Means, Operation, Prefetch, Scope,
    SystemCall, Tag,
};
use crate::cite::Citation;
use crate::procedure::{Procedures, Runner, Step, Unfit, Verdict};
use crate::{Description, Variant};

use super::common::{
    ACCESS_REMOTE_VM, DEBUGGER, DEBUGGER_SPARE, EMPTY, PROTECT_OPERATION, PROTECTED, PUBLISH, PUBLISH_SPARE,
    RESUME, STOP, STOP_SPARE, SWITCH, THREAD, WRITE, WRITE_ONE, breakpoint, debugger, fresh, kernel, perform,
    procedures, stopped, stored, way,
};

pub(crate) static DESCRIPTION: Description = Description {
    name: "arm",
    isas: &["arm"],
    variants: &[
        Variant {
            name: "v6-aliasing",
            what: "ARM1136 and ARM1176 with ways larger than a page",
            caches: V6,
            operations: &[cacheflush(Scope::ThisCpu), READ_BACK_OPERATION, PROTECT_OPERATION],
            procedures: V6_PROCEDURES,
        },
        Variant {
            name: "11mpcore",
            what: "ARM11 MPCore: several CPUs, maintenance not broadcast",
            caches: Caches {
                debugger_write: &[care(
                    true,
                    &[],
                    &[K_COHERENT_HERE, K_INVALIDATE_OTHERS],
                    "other CPUs are interrupted",
                )],
                ..V7
            },
            operations: &[cacheflush(Scope::ThisCpu), PROTECT_OPERATION],
            procedures: procedures(DEBUGGER_SPARE, LOCAL_ONLY, LOCAL_ONLY, LOCAL_ONLY),
        },
        Variant {
            name: "v7",
            what: "ARMv7, maintenance broadcast",
            caches: V7,
            operations: &[cacheflush(Scope::EveryCpu), PROTECT_OPERATION],
            procedures: procedures(
                DEBUGGER,
                fresh(&[way(&[WRITE, FLUSH, PUBLISH])]),
                breakpoint(&[way(&[STOP, WRITE_ONE, FLUSH, RESUME])]),
                stored(&[way(&[WRITE, FLUSH, PROTECTED, PUBLISH])]),
            ),
        },
        Variant {
            name: "v5-vivt",
            what: "ARMv4 and ARMv5: virtually tagged, one CPU",
            caches: V5,
            operations: &[cacheflush(Scope::ThisCpu), PROTECT_OPERATION],
            procedures: procedures(
                DEBUGGER_SPARE,
                fresh(&[way(&[WRITE, PUBLISH_SPARE])]),
                breakpoint(&[way(&[STOP_SPARE, WRITE_ONE, RESUME])]),
                stored(&[way(&[WRITE, FLUSH, PROTECTED, PUBLISH])]),
            ),
        },
    ],
};

/// v6 with aliases: read back what was written.
const V6_PROCEDURES: Procedures = procedures(
    debugger(
        fresh(&[way(&[WRITE, READ_BACK, PUBLISH_SPARE])]),
        stopped(&[way(&[STOP, EMPTY, WRITE, READ_BACK, RESUME])]),
        breakpoint(&[way(&[STOP_SPARE, WRITE_ONE, READ_BACK, RESUME])]),
    ),
    Verdict::Unfit(OTHER_COLOUR),
    Verdict::Unfit(OTHER_COLOUR),
    stored(&[way(&[WRITE, FLUSH, PROTECTED, PUBLISH])]),
);

const LOCAL_ONLY: Verdict = Verdict::Unfit(Unfit {
    why: "the system call maintains the caches of one CPU, while the bytes may be in the data cache of another and the old \
          ones in any instruction cache: only the kernel can interrupt the others",
    citations: &[CACHE_OP, FLUSH_ACCESS],
});
const OTHER_COLOUR: Unfit = Unfit {
    why: "the tracer's own mapping may have another colour, whose modified lines the target cannot write back",
    citations: &[FLUSH_ACCESS],
};

const V7_CACHES: Citation = Citation::Manual {
    title: "ARM Architecture Reference Manual ARMv7-A",
    section: "Ordering of cache and branch predictor maintenance operations",
};
const FLUSH_ACCESS: Citation =
    Citation::Kernel { path: "arch/arm/mm/flush.c", symbol: "__flush_ptrace_access" };
const FLUSH_DCACHE: Citation = Citation::Kernel { path: "arch/arm/mm/flush.c", symbol: "flush_dcache_folio" };
const SYNC_PTE: Citation = Citation::Kernel { path: "arch/arm/mm/flush.c", symbol: "__sync_icache_dcache" };
const CACHE_OP: Citation = Citation::Kernel { path: "arch/arm/kernel/traps.c", symbol: "do_cache_op" };
const SWITCH_MM: Citation =
    Citation::Kernel { path: "arch/arm/include/asm/mmu_context.h", symbol: "switch_mm" };
const GUP: Citation = Citation::Kernel { path: "mm/gup.c", symbol: "__get_user_pages" };
const FLUSH_ANON: Citation = Citation::Kernel { path: "arch/arm/mm/flush.c", symbol: "__flush_anon_page" };

const V7: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::None,
        index: Index::Physical,
        tag: Tag::Physical,
        citations: &[V7_CACHES, THREAD],
    },
    data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: true, citations: &[V7_CACHES] },
    prefetch: Prefetch { sees_own_stores: false, sees_other_stores: false, citations: &[V7_CACHES] },
    context_switch: ContextSwitch { citations: &[SWITCH_MM], ..SWITCH },
    kernel_exit: KernelExit {
        always_synchronises: true,
        interrupts_synchronise: true,
        note: "a return from an exception synchronises the CPU",
        citations: &[V7_CACHES],
    },
    mapping: Mapping {
        makes_marked_pages_agree: true,
        tlb_flush_renews_number: false,
        citations: &[SYNC_PTE, FLUSH_DCACHE],
    },
    debugger_write: &[care(true, &[], &[K_COHERENT], "no CPU is interrupted")],
    is_smp: true,
};

const V6: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::None,
        index: Index::Virtual,
        tag: Tag::Physical,
        citations: &[FLUSH_ACCESS],
    },
    data: DataCache {
        aliasing: Aliasing::Colours(0x4000),
        fetch_needs_write_back: true,
        citations: &[FLUSH_ACCESS],
    },
    debugger_write: &[care(
        false,
        GUP_FLUSH,
        &[K_CLEAN_USER, K_INVALIDATE_ALL],
        "of the data lines only those of the program's colour",
    )],
    is_smp: false,
    ..V7
};

const V5: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::None,
        index: Index::Virtual,
        tag: Tag::Virtual,
        citations: &[SWITCH_MM, FLUSH_ACCESS],
    },
    data: DataCache {
        aliasing: Aliasing::Colours(0x4000),
        fetch_needs_write_back: true,
        citations: &[SWITCH_MM],
    },
    context_switch: ContextSwitch { flushes_between_spaces: true, ..V7.context_switch },
    mapping: Mapping { makes_marked_pages_agree: false, ..V7.mapping },
    debugger_write: &[care(
        false,
        GUP_FLUSH,
        &[],
        "nothing, since the debugger does not run the address space: changing to it does all",
    )],
    is_smp: false,
    ..V7
};

const fn care(
    at_executing_colour: bool,
    before: &'static [Operation],
    steps: &'static [Operation],
    note: &'static str,
) -> DebuggerWriteCare {
    DebuggerWriteCare {
        kernels: Kernels::ALL,
        at_executing_colour,
        before,
        steps,
        hole: None,
        note,
        citations: &[ACCESS_REMOTE_VM, FLUSH_ACCESS],
    }
}

const BOTH: &[Effect] = &[Effect::WriteBackData, Effect::InvalidateInstructions];
const K_COHERENT: Operation = kernel(
    "__cpuc_coherent_kern_range",
    BOTH,
    Scope::EveryCpu,
    Finds::OwnAddress,
    Completes::AtOnce,
    &[FLUSH_ACCESS],
);
const K_COHERENT_HERE: Operation = kernel(
    "__cpuc_coherent_kern_range",
    BOTH,
    Scope::ThisCpu,
    Finds::OwnAddress,
    Completes::AtOnce,
    &[FLUSH_ACCESS],
);
const K_INVALIDATE_OTHERS: Operation = kernel(
    "flush_ptrace_access_other",
    &[Effect::InvalidateInstructions, Effect::DropPrefetched],
    Scope::OtherCpus,
    Finds::Everything,
    Completes::AtOnce,
    &[FLUSH_ACCESS],
);
const K_CLEAN_USER: Operation = kernel(
    "flush_pfn_alias",
    &[Effect::WriteBackData],
    Scope::EveryCpu,
    Finds::ExecutingAddress,
    Completes::AtOnce,
    &[FLUSH_ACCESS],
);
const K_INVALIDATE_ALL: Operation = kernel(
    "__flush_icache_all",
    &[Effect::InvalidateInstructions],
    Scope::EveryCpu,
    Finds::Everything,
    Completes::AtOnce,
    &[FLUSH_ACCESS],
);

const fn cacheflush(scope: Scope) -> Operation {
    Operation {
        means: FLUSH_CALL,
        effects: BOTH,
        scope,
        finds: Finds::OwnAddress,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "system call 0x0f0002, over the addresses of the caller; complete when it returns",
        citations: &[CACHE_OP],
    }
}

/// Before the copy: get_user_pages.
const GUP_FLUSH: &[Operation] = &[kernel(
    "flush_anon_page",
    BOTH,
    Scope::EveryCpu,
    Finds::Everything,
    Completes::AtOnce,
    &[GUP, FLUSH_ANON],
)];

const READ_BACK_OPERATION: Operation = Operation {
    means: Means::ReadBack,
    effects: BOTH,
    scope: Scope::EveryCpu,
    finds: Finds::Everything,
    completes: Completes::AtOnce,
    allowed: Allowed::Tracer,
    note: "get_user_pages flushes the program's and the kernel's lines of an anonymous page before it is copied",
    citations: &[GUP, FLUSH_ANON, FLUSH_DCACHE],
};

const FLUSH_CALL: Means = Means::SystemCall(SystemCall::Cacheflush);
const FLUSH: Step = perform(
    Runner::StoppedThread,
    FLUSH_CALL,
    "neither do fetches find what is in the data cache, nor do instruction lines see stores",
    &[CACHE_OP, V7_CACHES],
);
const READ_BACK: Step = perform(
    Runner::Writer,
    Means::ReadBack,
    "the bytes may still be in a data line of the kernel's colour, where no fetch finds them",
    &[GUP, FLUSH_ANON, FLUSH_ACCESS],
);
