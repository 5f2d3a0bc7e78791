//! riscv.
//!
//! The architecture promises nothing but `fence.i`: it makes stores that this hart has seen visible to its own fetches.
//! Linux forbids it to programs, since a thread may be moved to another hart right behind it; they call
//! `riscv_flush_icache`, which reaches every hart of the address space: those that run it now by an interrupt, the others
//! by a note (`icache_stale_mask`) that they find when they switch to it. Since 6.10 a program may ask by `prctl` that the
//! kernel itself executes `fence.i` whenever a thread is moved; then `fence.i` is allowed, in each thread.

use crate::cache::{
    Aliasing, Allowed, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect,
    Finds, Index, InstructionCache, KernelExit, Kernels, Mapping, Means, Operation, Prefetch, Scope,
    SystemCall, Tag,
};
use crate::cite::Citation;
use crate::procedure::{Requirement, Runner, Step, Way};
use crate::{Description, Variant};

use super::common::{
    ACCESS_REMOTE_VM, DEBUGGER_SPARE, PROTECT_OPERATION, PROTECTED, PUBLISH_SPARE, RESUME, STOP_SPARE,
    SWITCH, WRITE, WRITE_ONE, breakpoint, fresh, kernel, perform, procedures, stored, way,
};

pub(crate) static DESCRIPTION: Description = Description {
    name: "riscv",
    isas: &["riscv64", "riscv32"],
    variants: &[Variant {
        name: "incoherent",
        what: "whatever the architecture allows",
        caches: CACHES,
        operations: OPERATIONS,
        procedures: procedures(
            DEBUGGER_SPARE,
            fresh(&[way(&[WRITE, FLUSH, PUBLISH_SPARE]), by_fence(&[ALLOW, WRITE, FENCE, PUBLISH_SPARE])]),
            breakpoint(&[
                way(&[STOP_SPARE, WRITE_ONE, FLUSH, RESUME]),
                by_fence(&[ALLOW, STOP_SPARE, WRITE_ONE, FENCE, RESUME]),
            ]),
            stored(&[
                way(&[WRITE, FLUSH, PROTECTED, PUBLISH_SPARE]),
                by_fence(&[ALLOW, WRITE, FENCE, PROTECTED, PUBLISH_SPARE]),
            ]),
        ),
    }],
};

const fn by_fence(steps: &'static [Step]) -> Way {
    Way { requires: &[Requirement::RiscvFenceContext], steps }
}

const ZIFENCEI: Citation =
    Citation::Manual { title: "RISC-V ISA vol. I", section: "Zifencei, Instruction-Fetch Fence" };
const CMODX: Citation = Citation::Kernel {
    path: "Documentation/arch/riscv/cmodx.rst",
    symbol: "Concurrent Modification and Execution of Instructions (CMODX) for RISC-V Linux",
};
const FLUSH_MM: Citation = Citation::Kernel { path: "arch/riscv/mm/cacheflush.c", symbol: "flush_icache_mm" };
const DEFERRED: Citation =
    Citation::Kernel { path: "arch/riscv/mm/context.c", symbol: "flush_icache_deferred" };
const SYNC_PTE: Citation =
    Citation::Kernel { path: "arch/riscv/mm/cacheflush.c", symbol: "flush_icache_pte" };

const CACHES: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::None,
        index: Index::Virtual,
        tag: Tag::Physical,
        citations: &[ZIFENCEI],
    },
    data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: false, citations: &[ZIFENCEI] },
    prefetch: Prefetch { sees_own_stores: false, sees_other_stores: false, citations: &[ZIFENCEI] },
    context_switch: ContextSwitch {
        synchronises_between_spaces: false,
        flushes_if_prepared: true,
        citations: &[DEFERRED, CMODX],
        ..SWITCH
    },
    kernel_exit: KernelExit {
        always_synchronises: false,
        interrupts_synchronise: false,
        note: "`sret` is no instruction-fetch fence",
        citations: &[ZIFENCEI],
    },
    mapping: Mapping {
        makes_marked_pages_agree: true,
        tlb_flush_renews_number: false,
        citations: &[SYNC_PTE],
    },
    debugger_write: &[DebuggerWriteCare {
        kernels: Kernels::ALL,
        at_executing_colour: true,
        before: &[],
        steps: &[kernel(
            "flush_icache_mm",
            FENCES,
            Scope::EveryCpuOfSpace,
            Finds::Everything,
            Completes::AtOnce,
            &[FLUSH_MM],
        )],
        hole: None,
        note: "a copy, then `fence.i` on every hart of the address space, on those that do not run it when they do, if the \
               mapping is executable",
        citations: &[ACCESS_REMOTE_VM, FLUSH_MM, DEFERRED],
    }],
    is_smp: true,
};

const FENCES: &[Effect] = &[Effect::InvalidateInstructions, Effect::DropPrefetched];
const FLUSH_CALL: Means = Means::SystemCall(SystemCall::RiscvFlushIcache);
const ALLOW_CALL: Means = Means::SystemCall(SystemCall::RiscvAllowFence);

const OPERATIONS: &[Operation] = &[
    Operation {
        means: Means::Instruction("fence.i"),
        effects: FENCES,
        scope: Scope::ThisCpu,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::ForbiddenByAbi,
        note: "this hart only; allowed after the prctl",
        citations: &[ZIFENCEI, CMODX],
    },
    Operation {
        means: FLUSH_CALL,
        effects: FENCES,
        scope: Scope::EveryCpuOfSpace,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "ignores the range; also in the vDSO",
        citations: &[FLUSH_MM, DEFERRED],
    },
    Operation {
        means: ALLOW_CALL,
        effects: &[Effect::Prepare],
        scope: Scope::AddressSpace,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "from then on the kernel executes `fence.i` when a thread of the program is moved to another hart",
        citations: &[CMODX],
    },
    PROTECT_OPERATION,
];

const FLUSH: Step = perform(
    Runner::StoppedThread,
    FLUSH_CALL,
    "any hart may have fetched the place, and may be the next to run a thread",
    &[FLUSH_MM, DEFERRED, CMODX],
);
const ALLOW: Step = perform(
    Runner::StoppedThread,
    ALLOW_CALL,
    "without it a thread that is moved behind its fence finds what the other hart fetched before",
    &[CMODX],
);
const FENCE: Step = perform(
    Runner::EveryThread,
    Means::Instruction("fence.i"),
    "each thread's own hart may have fetched the old bytes",
    &[ZIFENCEI, CMODX],
);
