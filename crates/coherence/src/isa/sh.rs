//! sh.
//!
//! Nothing is coherent. SH-4 has one CPU and a data cache with colours: the kernel writes for a debugger through an
//! address of the program's colour and empties the instruction cache. SHX3 has several CPUs, whose caches are maintained
//! by memory-mapped arrays of their own: the kernel interrupts the others. The system call `cacheflush` cleans the data
//! lines of one CPU only, so with several CPUs a program cannot do it alone.

use crate::cache::{
    Aliasing, Allowed, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect,
    Finds, Index, InstructionCache, KernelExit, Kernels, Mapping, Means, Operation, Prefetch, Scope,
    SystemCall, Tag,
};
use crate::cite::Citation;
use crate::procedure::{Runner, Step, Unfit, Verdict};
use crate::{Description, Variant};

use super::common::{
    ACCESS_REMOTE_VM, DEBUGGER, DEBUGGER_SPARE, PROTECT_OPERATION, PROTECTED, PUBLISH, SWITCH, THREAD, WRITE,
    kernel, perform, procedures, stored, way,
};

pub(crate) static DESCRIPTION: Description = Description {
    name: "sh",
    isas: &["sh4"],
    variants: &[
        Variant {
            name: "shx3",
            what: "SH-4A with several CPUs",
            caches: SHX3,
            operations: OPERATIONS,
            procedures: procedures(DEBUGGER, LOCAL_ONLY, LOCAL_ONLY, LOCAL_ONLY),
        },
        Variant {
            name: "sh4",
            what: "SH-4: data cache with colours, one CPU",
            caches: SH4,
            operations: OPERATIONS,
            procedures: procedures(
                DEBUGGER_SPARE,
                Verdict::Unfit(OTHER_COLOUR),
                Verdict::Unfit(OTHER_COLOUR),
                stored(&[way(&[WRITE, FLUSH, PROTECTED, PUBLISH])]),
            ),
        },
    ],
};

const LOCAL_ONLY: Verdict = Verdict::Unfit(Unfit {
    why: "the system call cleans the data lines of one CPU, while the bytes may be in the cache of another: only the \
          kernel's own write stays on its CPU until it is done",
    citations: &[CACHEFLUSH, FLUSH_PAGE],
});
const OTHER_COLOUR: Unfit = Unfit {
    why: "the tracer's own mapping may have another colour, whose modified lines the target cannot write back",
    citations: &[COPY],
};

const MANUAL: Citation = Citation::Manual { title: "SH-4 Software Manual", section: "Caches" };
const COPY: Citation = Citation::Kernel { path: "arch/sh/mm/cache.c", symbol: "copy_to_user_page" };
const FLUSH_PAGE: Citation = Citation::Kernel { path: "arch/sh/mm/cache.c", symbol: "flush_cache_page" };
const CACHEFLUSH: Citation = Citation::Kernel { path: "arch/sh/kernel/sys_sh.c", symbol: "sys_cacheflush" };
const UPDATE_CACHE: Citation = Citation::Kernel { path: "arch/sh/mm/cache.c", symbol: "__update_cache" };

const SHX3: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::None,
        index: Index::Virtual,
        tag: Tag::Physical,
        citations: &[MANUAL, THREAD],
    },
    data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: true, citations: &[MANUAL] },
    prefetch: Prefetch { sees_own_stores: false, sees_other_stores: false, citations: &[MANUAL] },
    context_switch: ContextSwitch { citations: &[MANUAL], ..SWITCH },
    kernel_exit: KernelExit {
        always_synchronises: true,
        interrupts_synchronise: true,
        note: "`rte` empties the pipeline (from memory)",
        citations: &[MANUAL],
    },
    mapping: Mapping {
        makes_marked_pages_agree: true,
        tlb_flush_renews_number: false,
        citations: &[UPDATE_CACHE],
    },
    debugger_write: &[CARE],
    is_smp: true,
};

const SH4: Caches = Caches {
    data: DataCache {
        aliasing: Aliasing::Colours(0x4000),
        fetch_needs_write_back: true,
        citations: &[MANUAL, COPY],
    },
    is_smp: false,
    ..SHX3
};

const CARE: DebuggerWriteCare = DebuggerWriteCare {
    kernels: Kernels::ALL,
    at_executing_colour: true,
    before: &[],
    steps: &[K_PAGE],
    hole: None,
    note: "a copy through an address of the program's colour, then the page's data lines and all instruction lines, on \
           every CPU, if the mapping is executable",
    citations: &[ACCESS_REMOTE_VM, COPY, FLUSH_PAGE],
};
const K_PAGE: Operation = kernel(
    "flush_cache_page",
    &[Effect::WriteBackData, Effect::InvalidateInstructions],
    Scope::EveryCpu,
    Finds::Everything,
    Completes::AtOnce,
    &[FLUSH_PAGE],
);

const FLUSH_CALL: Means = Means::SystemCall(SystemCall::Cacheflush);
const OPERATIONS: &[Operation] = &[
    Operation {
        means: FLUSH_CALL,
        effects: &[Effect::WriteBackData, Effect::InvalidateInstructions],
        scope: Scope::ThisCpu,
        finds: Finds::ExecutingAddress,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "system call 123 (the number from memory); the range must lie in one mapping",
        citations: &[CACHEFLUSH],
    },
    PROTECT_OPERATION,
];

const FLUSH: Step = perform(
    Runner::StoppedThread,
    FLUSH_CALL,
    "neither do fetches find what is in the data cache, nor do instruction lines see stores",
    &[CACHEFLUSH, MANUAL],
);
