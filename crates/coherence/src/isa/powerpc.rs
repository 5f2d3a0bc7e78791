//! powerpc.
//!
//! Server CPUs since POWER4 keep instruction lines coherent with stores. The others need, for each line, `dcbst`, `sync`,
//! `icbi`, `sync`, and `isync` (or a return from an interrupt) on each CPU that executes it; all of them may be used by
//! programs, and the first two are broadcast. The 44x has a virtually tagged instruction cache: `icbi` through another
//! address does not find the lines, and the kernel empties all of it.

use crate::cache::{
    Aliasing, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect, Finds,
    Index, InstructionCache, KernelExit, Kernels, Mapping, Means, Operation, Prefetch, Scope, Tag,
};
use crate::cite::Citation;
use crate::procedure::{Runner, Step, Verdict};
use crate::{Description, Variant};

use super::common::{
    ACCESS_REMOTE_VM, DEBUGGER, DEBUGGER_SPARE, PROTECT_OPERATION, PROTECTED, PUBLISH, RESUME, STOP, SWITCH,
    THREAD, WRITE, WRITE_ONE, breakpoint, fresh, instruction, invalidate, invalidated, kernel, perform,
    procedures, stored, way,
};

pub(crate) static DESCRIPTION: Description = Description {
    name: "powerpc",
    isas: &["ppc64", "ppc64le", "ppc"],
    variants: &[
        Variant {
            name: "44x",
            what: "440 and 460: a virtually tagged instruction cache, one CPU",
            caches: Caches { is_smp: false, ..caches(Index::Virtual, Tag::VirtualWithSpaceNumber, CARE_44X) },
            operations: OPERATIONS,
            procedures: procedures(DEBUGGER_SPARE, ALIAS, ALIAS_ONE, TARGET),
        },
        Variant {
            name: "noncoherent",
            what: "603, e500 and other 32-bit CPUs",
            caches: caches(Index::Physical, Tag::Physical, CARE),
            operations: OPERATIONS,
            procedures: procedures(DEBUGGER, ALIAS, ALIAS_ONE, TARGET),
        },
        Variant {
            name: "coherent",
            what: "POWER4 and later: CPU_FTR_COHERENT_ICACHE",
            caches: COHERENT,
            operations: OPERATIONS,
            procedures: procedures(
                DEBUGGER,
                fresh(&[way(&[WRITE, PUBLISH])]),
                breakpoint(&[way(&[STOP, WRITE_ONE, RESUME])]),
                stored(&[way(&[WRITE, PROTECTED, PUBLISH])]),
            ),
        },
    ],
};

const ALIAS: Verdict = fresh(&[way(&[WRITE, DCBST, SYNC_1, ICBI, SYNC_2, PUBLISH])]);
const ALIAS_ONE: Verdict = breakpoint(&[way(&[STOP, WRITE_ONE, DCBST, SYNC_1, ICBI, SYNC_2, RESUME])]);
const TARGET: Verdict = stored(&[way(&[WRITE, DCBST, SYNC_1, ICBI, SYNC_2, PROTECTED, PUBLISH])]);

const STORAGE: Citation = Citation::Manual { title: "Power ISA Book II", section: "Instruction Storage" };
const CONTEXT: Citation =
    Citation::Manual { title: "Power ISA Book III", section: "Context Synchronization" };
const FLUSH_RANGE: Citation =
    Citation::Kernel { path: "arch/powerpc/mm/cacheflush.c", symbol: "flush_icache_range" };
const FLUSH_USER_PAGE: Citation =
    Citation::Kernel { path: "arch/powerpc/mm/cacheflush.c", symbol: "flush_icache_user_page" };
const FLUSH_DCACHE: Citation =
    Citation::Kernel { path: "arch/powerpc/include/asm/cacheflush.h", symbol: "flush_dcache_page" };
const SET_PTE: Citation = Citation::Kernel { path: "arch/powerpc/mm/pgtable.c", symbol: "set_pte_filter" };

const fn caches(index: Index, tag: Tag, debugger_write: &'static [DebuggerWriteCare]) -> Caches {
    Caches {
        instruction: InstructionCache {
            coherence: Coherence::None,
            index,
            tag,
            citations: &[STORAGE, FLUSH_RANGE],
        },
        data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: true, citations: &[STORAGE] },
        prefetch: Prefetch {
            sees_own_stores: false,
            sees_other_stores: false,
            citations: &[STORAGE, CONTEXT],
        },
        context_switch: ContextSwitch { citations: &[CONTEXT], ..SWITCH },
        kernel_exit: KernelExit {
            always_synchronises: true,
            interrupts_synchronise: true,
            note: "`rfi` and `rfid` synchronise the context",
            citations: &[CONTEXT],
        },
        mapping: Mapping {
            makes_marked_pages_agree: true,
            tlb_flush_renews_number: false,
            citations: &[SET_PTE, FLUSH_DCACHE],
        },
        debugger_write,
        is_smp: true,
    }
}

const COHERENT: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::Snooped,
        index: Index::Physical,
        tag: Tag::Physical,
        citations: &[FLUSH_RANGE, THREAD],
    },
    data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: false, citations: &[FLUSH_RANGE] },
    ..caches(Index::Physical, Tag::Physical, &[care(&[K_ISYNC])])
};

const CARE: &[DebuggerWriteCare] = &[care(&[K_DCBST, K_SYNC, K_ICBI, K_SYNC, K_ISYNC])];
const CARE_44X: &[DebuggerWriteCare] = &[care(&[K_DCBST, K_SYNC, K_ICCCI, K_ISYNC])];

const fn care(steps: &'static [Operation]) -> DebuggerWriteCare {
    DebuggerWriteCare {
        kernels: Kernels::ALL,
        at_executing_colour: true,
        before: &[],
        steps,
        hole: None,
        note: "a copy through the kernel's mapping, then flush_icache_range on that mapping",
        citations: &[ACCESS_REMOTE_VM, FLUSH_USER_PAGE, FLUSH_RANGE],
    }
}

const CLEANS: &[Effect] = &[Effect::WriteBackData];
const INVALIDATES: &[Effect] = &[Effect::InvalidateInstructions];
const COMPLETES: &[Effect] = &[Effect::Complete];
const DROPS: &[Effect] = &[Effect::DropPrefetched];

const K_DCBST: Operation =
    kernel("dcbst", CLEANS, Scope::EveryCpu, Finds::OwnAddress, Completes::ByBarrier, &[FLUSH_RANGE]);
const K_ICBI: Operation =
    kernel("icbi", INVALIDATES, Scope::EveryCpu, Finds::OwnAddress, Completes::ByBarrier, &[FLUSH_RANGE]);
const K_ICCCI: Operation =
    kernel("iccci", INVALIDATES, Scope::ThisCpu, Finds::Everything, Completes::AtOnce, &[FLUSH_RANGE]);
const K_SYNC: Operation =
    kernel("sync", COMPLETES, Scope::EveryCpu, Finds::Everything, Completes::AtOnce, &[FLUSH_RANGE]);
const K_ISYNC: Operation =
    kernel("isync", DROPS, Scope::ThisCpu, Finds::Everything, Completes::AtOnce, &[FLUSH_RANGE]);

const OPERATIONS: &[Operation] = &[
    instruction(
        "dcbst",
        CLEANS,
        Scope::EveryCpu,
        Finds::OwnAddress,
        Completes::ByBarrier,
        "each line of the range, of the size in AT_DCACHEBSIZE",
        &[STORAGE],
    ),
    instruction(
        "icbi",
        INVALIDATES,
        Scope::EveryCpu,
        Finds::OwnAddress,
        Completes::ByBarrier,
        "each line of the range, of the size in AT_ICACHEBSIZE",
        &[STORAGE],
    ),
    instruction(
        "sync",
        COMPLETES,
        Scope::EveryCpu,
        Finds::Everything,
        Completes::AtOnce,
        "waits for what this CPU began",
        &[STORAGE],
    ),
    instruction(
        "isync",
        DROPS,
        Scope::ThisCpu,
        Finds::Everything,
        Completes::AtOnce,
        "each CPU for itself",
        &[STORAGE, CONTEXT],
    ),
    PROTECT_OPERATION,
];

const DCBST: Step = perform(
    Runner::StoppedThread,
    Means::Instruction("dcbst"),
    "fetches read behind the data cache: until the line is written back they find the old bytes there",
    &[STORAGE],
);
const SYNC_1: Step = perform(
    Runner::StoppedThread,
    Means::Instruction("sync"),
    "until the line is written back an instruction line may be filled with the old bytes once more",
    &[STORAGE],
);
const ICBI: Step = invalidate("icbi", &[STORAGE, THREAD]);
const SYNC_2: Step = invalidated("sync", &[STORAGE]);
