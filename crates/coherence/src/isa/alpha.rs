//! alpha.
//!
//! The instruction cache is virtual, tagged with an address-space number (ASN), and sees no store. `call_pal imb` empties
//! that of the CPU which executes it, and of no other. An address space has an ASN of its own on every CPU
//! (`mm->context[cpu]`), and keeps it while it runs elsewhere: what a thread left in the cache of a CPU is what it finds
//! when it comes back, even if it is the program's only thread and never ran anywhere else meanwhile.
//!
//! So the kernel does not send `imb` around. It takes the address space's numbers away, on every CPU: lines under the
//! old number cannot be hit any more, and before the number is given out again the cache is emptied. A program can have
//! the same by anything that flushes its TLBs, since on alpha that means new numbers too; there is no system call for
//! caches.
//!
//! Kernels up to 6.1 at least forget the CPU on which the debugger itself runs: `smp_call_function` excludes the caller. (By reading; no
//! such machine was at hand. What is said of the caches of EV5 and EV6 is from memory of the manuals.)

use crate::cache::{
    Aliasing, Allowed, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect,
    Finds, Index, InstructionCache, KernelExit, KernelRange, KernelVersion, Kernels, Mapping, Means,
    Operation, Prefetch, Scope, SystemCall, Tag,
};
use crate::cite::Citation;
use crate::procedure::{Runner, Step};
use crate::{Description, Variant};

use super::common::{
    DEBUGGER, PROTECT_OPERATION, PROTECTED, PUBLISH, RESUME, STOP, SWITCH, THREAD, WRITE, WRITE_ONE,
    breakpoint, fresh, instruction, kernel, perform, procedures, stored, way,
};

pub(crate) static DESCRIPTION: Description = Description {
    name: "alpha",
    isas: &["alpha"],
    variants: &[Variant {
        name: "smp",
        what: "EV5 and EV6, several CPUs, numbers of address spaces per CPU",
        caches: CACHES,
        operations: OPERATIONS,
        procedures: procedures(
            DEBUGGER,
            fresh(&[way(&[WRITE, RENUMBER, PUBLISH])]),
            breakpoint(&[way(&[STOP, WRITE_ONE, RENUMBER, RESUME])]),
            stored(&[way(&[WRITE, PROTECTED, PUBLISH])]),
        ),
    }],
};

const IMB: Citation = Citation::Manual {
    title: "Alpha Architecture Reference Manual",
    section: "Instruction-Stream Coherency",
};
const FLUSH: Citation =
    Citation::Kernel { path: "arch/alpha/kernel/smp.c", symbol: "flush_icache_user_page" };
const NEW_CONTEXT: Citation =
    Citation::Kernel { path: "arch/alpha/include/asm/mmu_context.h", symbol: "__get_new_mm_context" };
const SWITCH_MM: Citation =
    Citation::Kernel { path: "arch/alpha/include/asm/mmu_context.h", symbol: "ev5_switch_mm" };
const FLUSH_TLB: Citation = Citation::Kernel { path: "arch/alpha/kernel/smp.c", symbol: "flush_tlb_mm" };

const CACHES: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::None,
        index: Index::Virtual,
        tag: Tag::VirtualWithSpaceNumber,
        citations: &[IMB, THREAD],
    },
    data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: false, citations: &[IMB] },
    prefetch: Prefetch { sees_own_stores: false, sees_other_stores: false, citations: &[IMB] },
    context_switch: ContextSwitch { citations: &[SWITCH_MM, NEW_CONTEXT], ..SWITCH },
    kernel_exit: KernelExit {
        always_synchronises: true,
        interrupts_synchronise: true,
        note: "through PALcode, which empties the pipeline, though not the instruction cache (an inference, not a \
               promise of the manual)",
        citations: &[IMB],
    },
    mapping: Mapping {
        makes_marked_pages_agree: false,
        tlb_flush_renews_number: true,
        citations: &[FLUSH_TLB, NEW_CONTEXT],
    },
    debugger_write: &[
        DebuggerWriteCare {
            kernels: MENDED,
            at_executing_colour: true,
            before: &[],
            steps: &[kernel(
                "flush_icache_user_page",
                RENEWS,
                Scope::EveryCpu,
                Finds::Everything,
                Completes::AtOnce,
                &[FLUSH],
            )],
            hole: None,
            note: "the address space loses its number on every CPU, or has a new one loaded where it runs, if the mapping \
                   is executable",
            citations: &[FLUSH, THREAD],
        },
        DebuggerWriteCare {
            kernels: OLD,
            at_executing_colour: true,
            before: &[],
            steps: &[kernel(
                "smp_call_function",
                RENEWS,
                Scope::OtherCpus,
                Finds::Everything,
                Completes::AtOnce,
                &[FLUSH],
            )],
            hole: Some(
                "the CPU on which the debugger ran when it wrote may go on with the old instructions when a thread of \
                 the program comes there",
            ),
            note: "the same on every CPU but the debugger's, where a caller that does not run the address space itself \
                   leaves the number as it is",
            citations: &[FLUSH, NEW_CONTEXT],
        },
    ],
    is_smp: true,
};

/// The source of 6.12.117 and of 7.3 was read; what is newer in the same series is taken to be as good.
const MENDED: Kernels = Kernels {
    text: "6.12.117 and later 6.12, 7.3 and later (6.12.117 and 7.3 were read)",
    ranges: &[
        KernelRange { from: KernelVersion(6, 12, 117), before: Some(KernelVersion(6, 13, 0)) },
        KernelRange { from: KernelVersion(7, 3, 0), before: None },
    ],
};
/// The source of 6.1 was read; whatever lies between and was not read counts as having the hole.
const OLD: Kernels = Kernels {
    text: "before 6.12.117, 6.13 to 7.2 (6.1 was read; 6.2 to 6.12.116 and 6.13 to 7.2 were not, and count as bad)",
    ranges: &[
        KernelRange { from: KernelVersion(0, 0, 0), before: Some(KernelVersion(6, 12, 117)) },
        KernelRange { from: KernelVersion(6, 13, 0), before: Some(KernelVersion(7, 3, 0)) },
    ],
};

const RENEWS: &[Effect] = &[Effect::RenewSpaceNumber];
const TWICE: Means = Means::SystemCall(SystemCall::MprotectTwice);

const OPERATIONS: &[Operation] = &[
    instruction(
        "call_pal imb",
        &[Effect::InvalidateInstructions, Effect::DropPrefetched],
        Scope::ThisCpu,
        Finds::Everything,
        Completes::AtOnce,
        "empties the instruction cache of this CPU only; no system call sends it to others",
        &[IMB, THREAD],
    ),
    Operation {
        means: TWICE,
        effects: &[Effect::Protect],
        scope: Scope::EveryCpuOfSpace,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "the TLB flush gives the address space a new number on every CPU; the caller runs it, so old kernels miss \
               none",
        citations: &[FLUSH_TLB, NEW_CONTEXT],
    },
    PROTECT_OPERATION,
];

const RENUMBER: Step = perform(
    Runner::StoppedThread,
    TWICE,
    "lines that any CPU filled under the old number stay there; with a new one they cannot be hit",
    &[FLUSH_TLB, NEW_CONTEXT, THREAD],
);
