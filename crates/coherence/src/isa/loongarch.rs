//! loongarch.
//!
//! Hardware keeps instruction lines coherent with stores; `ibar 0` drops what a CPU fetched ahead, and so does the return
//! from an exception (the latter from memory of the manual).

use crate::cache::{
    Aliasing, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect, Finds,
    Index, InstructionCache, KernelExit, Kernels, Mapping, Operation, Prefetch, Scope, Tag,
};
use crate::cite::Citation;
use crate::{Description, Variant};

use super::common::{
    ACCESS_REMOTE_VM, CACHETLB, DEBUGGER, PROTECT_OPERATION, PROTECTED, PUBLISH, RESUME, STOP, WRITE,
    WRITE_ONE, breakpoint, fresh, instruction, procedures, stored, way,
};

pub(crate) static DESCRIPTION: Description = Description {
    name: "loongarch",
    isas: &["loongarch64"],
    variants: &[Variant {
        name: "coherent",
        what: "all",
        caches: CACHES,
        operations: OPERATIONS,
        procedures: procedures(
            DEBUGGER,
            fresh(&[way(&[WRITE, PUBLISH])]),
            breakpoint(&[way(&[STOP, WRITE_ONE, RESUME])]),
            stored(&[way(&[WRITE, PROTECTED, PUBLISH])]),
        ),
    }],
};

const STORAGE: Citation =
    Citation::Kernel { path: "arch/loongarch/include/asm/cacheflush.h", symbol: "local_flush_icache_range" };
const SERIALIZATION: Citation =
    Citation::Manual { title: "LoongArch Reference Manual vol. 1", section: "IBAR" };

const CACHES: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::Snooped,
        index: Index::Virtual,
        tag: Tag::Physical,
        citations: &[STORAGE],
    },
    data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: false, citations: &[STORAGE] },
    prefetch: Prefetch {
        sees_own_stores: false,
        sees_other_stores: false,
        citations: &[STORAGE, SERIALIZATION],
    },
    context_switch: ContextSwitch {
        synchronises_between_spaces: true,
        synchronises_within_space: false,
        keeps_space_number: true,
        number_reuse_flushes: true,
        flushes_between_spaces: false,
        flushes_if_prepared: false,
        synchronises_if_prepared: false,
        completes_maintenance: true,
        citations: &[SERIALIZATION],
    },
    kernel_exit: KernelExit {
        always_synchronises: true,
        interrupts_synchronise: true,
        note: "`ertn` drops what was fetched ahead (from memory)",
        citations: &[SERIALIZATION],
    },
    mapping: Mapping {
        makes_marked_pages_agree: false,
        tlb_flush_renews_number: false,
        citations: &[CACHETLB],
    },
    debugger_write: &[DebuggerWriteCare {
        kernels: Kernels::ALL,
        at_executing_colour: true,
        before: &[],
        steps: &[],
        hole: None,
        note: "a plain copy",
        citations: &[ACCESS_REMOTE_VM, CACHETLB],
    }],
    is_smp: true,
};

const OPERATIONS: &[Operation] = &[
    instruction(
        "ibar 0",
        &[Effect::DropPrefetched],
        Scope::ThisCpu,
        Finds::Everything,
        Completes::AtOnce,
        "each CPU for itself; membarrier SYNC_CORE does not exist here",
        &[SERIALIZATION],
    ),
    PROTECT_OPERATION,
];
