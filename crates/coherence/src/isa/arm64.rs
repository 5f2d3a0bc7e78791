//! arm64.
//!
//! Two bits of CTR_EL0 say what software must do: IDC, that data need not be cleaned to the point of unification before
//! fetches find them; DIC, that instruction lines need not be invalidated. Without them the manual's order is
//! `dc cvau`, `dsb ish`, `ic ivau`, `dsb ish` by the writer and `isb` (or a return from an exception) by each executor.
//! Both barriers are needed: maintenance completes at a `dsb` only. The operations by address are broadcast to the inner
//! shareable domain; `isb` is not.
//!
//! The instruction cache is indexed physically as far as software can tell (PIPT), or virtually (VIPT); with the
//! second, `ic ivau` through another address does not find the lines, and the kernel invalidates all of them.

use crate::cache::{
    Aliasing, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect, Finds,
    Index, InstructionCache, KernelExit, Kernels, Mapping, Means, Operation, Prefetch, Scope, Tag,
};
use crate::cite::Citation;
use crate::procedure::{Runner, Step};
use crate::{Description, Variant};

use super::common::{
    ACCESS_REMOTE_VM, DEBUGGER, PROTECT_OPERATION, PROTECTED, PUBLISH, RESUME, STOP, SWITCH, WRITE,
    WRITE_ONE, breakpoint, fresh, instruction, invalidate, invalidated, kernel, perform, procedures, stored,
    way,
};

pub(crate) static DESCRIPTION: Description = Description {
    name: "arm64",
    isas: &["aarch64"],
    variants: &[
        variant("vipt", "CTR_EL0 says VIPT, IDC=0, DIC=0", Index::Virtual, false, false),
        variant("pipt", "CTR_EL0 says PIPT, IDC=0, DIC=0", Index::Physical, false, false),
        variant("vipt-idc", "CTR_EL0 says VIPT, IDC=1, DIC=0", Index::Virtual, true, false),
        variant("pipt-idc", "CTR_EL0 says PIPT, IDC=1, DIC=0", Index::Physical, true, false),
        variant("vipt-dic", "CTR_EL0 says VIPT, IDC=0, DIC=1", Index::Virtual, false, true),
        variant("pipt-dic", "CTR_EL0 says PIPT, IDC=0, DIC=1", Index::Physical, false, true),
        variant("vipt-idc-dic", "CTR_EL0 says VIPT, IDC=1, DIC=1", Index::Virtual, true, true),
        variant("pipt-idc-dic", "CTR_EL0 says PIPT, IDC=1, DIC=1", Index::Physical, true, true),
    ],
};

const CTR: Citation =
    Citation::Manual { title: "Arm Architecture Reference Manual", section: "CTR_EL0, Cache Type Register" };
const MAINTENANCE: Citation = Citation::Manual {
    title: "Arm Architecture Reference Manual",
    section: "Synchronization and coherency issues between data and instruction accesses",
};
const CONTEXT: Citation =
    Citation::Manual { title: "Arm Architecture Reference Manual", section: "Context synchronization event" };
const SYNC_ALIASES: Citation =
    Citation::Kernel { path: "arch/arm64/mm/flush.c", symbol: "sync_icache_aliases" };
const COPY: Citation = Citation::Kernel { path: "arch/arm64/mm/flush.c", symbol: "copy_to_user_page" };
const SYNC_PTE: Citation = Citation::Kernel { path: "arch/arm64/mm/flush.c", symbol: "__sync_icache_dcache" };
const SWITCH_TO: Citation = Citation::Kernel { path: "arch/arm64/kernel/process.c", symbol: "__switch_to" };

const fn variant(name: &'static str, what: &'static str, index: Index, idc: bool, dic: bool) -> Variant {
    let (alias, own, target) = match (idc, dic) {
        (false, false) => (
            fresh(const { &[way(&[WRITE, DC, DSB_1, IC, DSB_2, PUBLISH])] }),
            breakpoint(const { &[way(&[STOP, WRITE_ONE, DC, DSB_1, IC, DSB_2, RESUME])] }),
            stored(const { &[way(&[WRITE, DC, DSB_1, IC, DSB_2, PROTECTED, PUBLISH])] }),
        ),
        (true, false) => (
            fresh(const { &[way(&[WRITE, IC, DSB_2, PUBLISH])] }),
            breakpoint(const { &[way(&[STOP, WRITE_ONE, IC, DSB_2, RESUME])] }),
            stored(const { &[way(&[WRITE, IC, DSB_2, PROTECTED, PUBLISH])] }),
        ),
        (false, true) => (
            fresh(const { &[way(&[WRITE, DC, DSB_1, PUBLISH])] }),
            breakpoint(const { &[way(&[STOP, WRITE_ONE, DC, DSB_1, RESUME])] }),
            stored(const { &[way(&[WRITE, DC, DSB_1, PROTECTED, PUBLISH])] }),
        ),
        (true, true) => (
            fresh(const { &[way(&[WRITE, PUBLISH])] }),
            breakpoint(const { &[way(&[STOP, WRITE_ONE, RESUME])] }),
            stored(const { &[way(&[WRITE, PROTECTED, PUBLISH])] }),
        ),
    };
    Variant {
        name,
        what,
        caches: caches(index, idc, dic),
        operations: OPERATIONS,
        procedures: procedures(DEBUGGER, alias, own, target),
    }
}

const fn caches(index: Index, idc: bool, dic: bool) -> Caches {
    Caches {
        instruction: InstructionCache {
            coherence: if dic { Coherence::Snooped } else { Coherence::None },
            index,
            tag: Tag::Physical,
            citations: &[CTR, MAINTENANCE],
        },
        data: DataCache {
            aliasing: Aliasing::None,
            fetch_needs_write_back: !idc,
            citations: &[CTR, MAINTENANCE],
        },
        prefetch: Prefetch {
            sees_own_stores: false,
            sees_other_stores: false,
            citations: &[MAINTENANCE, CONTEXT],
        },
        context_switch: ContextSwitch { citations: &[SWITCH_TO, CONTEXT], ..SWITCH },
        kernel_exit: KernelExit {
            always_synchronises: true,
            interrupts_synchronise: true,
            note: "a return from an exception synchronises the CPU",
            citations: &[CONTEXT],
        },
        mapping: Mapping {
            makes_marked_pages_agree: true,
            tlb_flush_renews_number: false,
            citations: &[SYNC_PTE],
        },
        debugger_write: match (index, idc, dic) {
            (Index::Physical, false, false) => const { &[care(&[K_DC, K_DSB, K_IC, K_DSB, K_ISB])] },
            (Index::Virtual, false, false) => const { &[care(&[K_DC, K_DSB, K_IC_ALL, K_DSB, K_ISB])] },
            (Index::Physical, true, false) => const { &[care(&[K_IC, K_DSB, K_ISB])] },
            (Index::Virtual, true, false) => const { &[care(&[K_IC_ALL, K_DSB, K_ISB])] },
            (_, false, true) => const { &[care(&[K_DC, K_DSB, K_ISB])] },
            (_, true, true) => const { &[care(&[K_ISB])] },
        },
        is_smp: true,
    }
}

const fn care(steps: &'static [Operation]) -> DebuggerWriteCare {
    DebuggerWriteCare {
        kernels: Kernels::ALL,
        at_executing_colour: true,
        before: &[],
        steps,
        hole: None,
        note: "a copy through the kernel's mapping, then the manual's order on that mapping, if the program's is \
               executable; other CPUs are not interrupted",
        citations: &[ACCESS_REMOTE_VM, COPY, SYNC_ALIASES],
    }
}

const K_DC: Operation =
    kernel("dc cvau", CLEANS, Scope::EveryCpu, Finds::OwnAddress, Completes::ByBarrier, &[SYNC_ALIASES]);
const K_IC: Operation =
    kernel("ic ivau", INVALIDATES, Scope::EveryCpu, Finds::OwnAddress, Completes::ByBarrier, &[SYNC_ALIASES]);
const K_IC_ALL: Operation = kernel(
    "ic ialluis",
    INVALIDATES,
    Scope::EveryCpu,
    Finds::Everything,
    Completes::ByBarrier,
    &[SYNC_ALIASES],
);
const K_DSB: Operation =
    kernel("dsb ish", COMPLETES, Scope::EveryCpu, Finds::Everything, Completes::AtOnce, &[SYNC_ALIASES]);
const K_ISB: Operation =
    kernel("isb", DROPS, Scope::ThisCpu, Finds::Everything, Completes::AtOnce, &[SYNC_ALIASES]);

const CLEANS: &[Effect] = &[Effect::WriteBackData];
const INVALIDATES: &[Effect] = &[Effect::InvalidateInstructions];
const COMPLETES: &[Effect] = &[Effect::Complete];
const DROPS: &[Effect] = &[Effect::DropPrefetched];

const OPERATIONS: &[Operation] = &[
    instruction(
        "dc cvau",
        CLEANS,
        Scope::EveryCpu,
        Finds::OwnAddress,
        Completes::ByBarrier,
        "each line of the range, of the size in CTR_EL0",
        &[MAINTENANCE, CTR],
    ),
    instruction(
        "ic ivau",
        INVALIDATES,
        Scope::EveryCpu,
        Finds::OwnAddress,
        Completes::ByBarrier,
        "each line of the range, of the size in CTR_EL0",
        &[MAINTENANCE, CTR],
    ),
    instruction(
        "dsb ish",
        COMPLETES,
        Scope::EveryCpu,
        Finds::Everything,
        Completes::AtOnce,
        "waits for what this CPU began, on all CPUs of the inner shareable domain",
        &[MAINTENANCE],
    ),
    instruction(
        "isb",
        DROPS,
        Scope::ThisCpu,
        Finds::Everything,
        Completes::AtOnce,
        "each CPU for itself",
        &[CONTEXT],
    ),
    PROTECT_OPERATION,
];

const DC: Step = perform(
    Runner::StoppedThread,
    Means::Instruction("dc cvau"),
    "fetches read behind the data cache: until the line is cleaned they find the old bytes there",
    &[MAINTENANCE],
);
const DSB_1: Step = perform(
    Runner::StoppedThread,
    Means::Instruction("dsb ish"),
    "until the cleaning is complete an instruction line may be filled with the old bytes once more",
    &[MAINTENANCE],
);
const IC: Step = invalidate("ic ivau", &[MAINTENANCE]);
const DSB_2: Step = invalidated("dsb ish", &[MAINTENANCE]);
