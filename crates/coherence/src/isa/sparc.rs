//! sparc64.
//!
//! Cheetah and the sun4v CPUs keep instruction lines coherent with every store. On spitfire (UltraSPARC I and II) the
//! instruction cache sees the stores of other CPUs, and not those of its own. The data cache writes through, so its
//! colours do not matter to fetches.
//!
//! What the kernel does for a debugger's write looks, as it reads, like two arguments exchanged: the instruction lines
//! are dropped for a read and not for a write. On spitfire the CPU that copied the bytes then holds old lines, and a
//! `flush` must be executed there; which CPU it was a tracer does not know, so a thread does it on each. (By reading; no
//! such machine was at hand.)

use crate::cache::{
    Aliasing, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect, Finds,
    Index, InstructionCache, KernelExit, Mapping, Means, Operation, Prefetch, Scope, Tag,
};
use crate::cite::Citation;
use crate::procedure::{Runner, Step};
use crate::{Description, Variant};

use super::common::{
    ACCESS_REMOTE_VM, CACHETLB, DEBUGGER, EMPTY, PLAIN_COPY, PROTECT_OPERATION, PROTECTED, PUBLISH,
    PUBLISH_SPARE, RESUME, STOP, STOP_SPARE, SWITCH, THREAD, WRITE, WRITE_ONE, breakpoint, debugger, fresh,
    instruction, perform, procedures, stopped, stored, way,
};

pub(crate) static DESCRIPTION: Description = Description {
    name: "sparc",
    isas: &["sparc64"],
    variants: &[
        Variant {
            name: "spitfire",
            what: "UltraSPARC I and II: own stores are not seen",
            caches: SPITFIRE,
            operations: OPERATIONS,
            procedures: procedures(
                debugger(
                    fresh(&[way(&[WRITE, FLUSH, PUBLISH_SPARE])]),
                    stopped(&[way(&[STOP, EMPTY, WRITE, FLUSH, RESUME])]),
                    breakpoint(&[way(&[STOP_SPARE, WRITE_ONE, FLUSH, RESUME])]),
                ),
                fresh(&[way(&[WRITE, FLUSH, PUBLISH_SPARE])]),
                breakpoint(&[way(&[STOP_SPARE, WRITE_ONE, FLUSH, RESUME])]),
                stored(&[way(&[WRITE, FLUSH, PROTECTED, PUBLISH_SPARE])]),
            ),
        },
        Variant {
            name: "coherent",
            what: "UltraSPARC III (cheetah) and sun4v",
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

const FLUSH_MANUAL: Citation = Citation::Manual {
    title: "The SPARC Architecture Manual, Version 9",
    section: "Flush Instruction Memory",
};
const ULTRA: Citation = Citation::Manual { title: "UltraSPARC User's Manual", section: "Instruction Cache" };
const PTRACE_FLUSH: Citation =
    Citation::Kernel { path: "arch/sparc/kernel/ptrace_64.c", symbol: "flush_ptrace_access" };

const COHERENT: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::Snooped,
        index: Index::Physical,
        tag: Tag::Physical,
        citations: &[PTRACE_FLUSH, THREAD],
    },
    data: DataCache {
        aliasing: Aliasing::Colours(0x4000),
        fetch_needs_write_back: false,
        citations: &[ULTRA, PTRACE_FLUSH],
    },
    prefetch: Prefetch { sees_own_stores: false, sees_other_stores: false, citations: &[FLUSH_MANUAL] },
    context_switch: ContextSwitch { citations: &[FLUSH_MANUAL], ..SWITCH },
    kernel_exit: KernelExit {
        always_synchronises: true,
        interrupts_synchronise: true,
        note: "`retry` and `done` empty the pipeline (an inference)",
        citations: &[FLUSH_MANUAL],
    },
    mapping: Mapping {
        makes_marked_pages_agree: false,
        tlb_flush_renews_number: false,
        citations: &[CACHETLB],
    },
    debugger_write: &[DebuggerWriteCare {
        note: "a copy, then data lines of the program's colour are dropped; instruction lines are not, for a write",
        citations: &[ACCESS_REMOTE_VM, PTRACE_FLUSH],
        ..PLAIN_COPY
    }],
    is_smp: true,
};

const SPITFIRE: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::SnoopedRemotely,
        index: Index::Physical,
        tag: Tag::Physical,
        citations: &[PTRACE_FLUSH, ULTRA],
    },
    ..COHERENT
};

const OPERATIONS: &[Operation] = &[
    instruction(
        "flush",
        &[Effect::InvalidateInstructions, Effect::DropPrefetched],
        Scope::ThisCpu,
        Finds::OwnAddress,
        Completes::AtOnce,
        "each eight bytes; on other CPUs it takes effect some time, on which nothing here relies",
        &[FLUSH_MANUAL],
    ),
    PROTECT_OPERATION,
];

const FLUSH: Step = perform(
    Runner::EveryCpu,
    Means::Instruction("flush"),
    "the CPU that stored the bytes holds old instruction lines, and any thread may come to it",
    &[FLUSH_MANUAL, PTRACE_FLUSH],
);
