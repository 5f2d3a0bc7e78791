//! mips.
//!
//! Most CPUs keep nothing coherent. Programs may use `synci` for each line, which acts on the CPU that executes it as far
//! as the manual promises, or the system call `cacheflush`, which the kernel carries out on every CPU. Two further kinds:
//! a virtually tagged instruction cache, whose lines are found at the executing address only; and a data cache with
//! colours, for which the kernel writes through an address of the program's colour.
//!
//! With virtual tags the kernel's care for a debugger's write hits the lines of its own address where the address space
//! is not active, as the code reads, and leaves the program's: so the target calls `cacheflush` afterwards. That is shown
//! for one CPU. With several, `cacheflush` goes by the program's addresses on CPUs that may run another program, and
//! whether virtual tags are found there was not examined.

use crate::cache::{
    Aliasing, Allowed, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect,
    Finds, Index, InstructionCache, KernelExit, Kernels, Mapping, Means, Operation, Prefetch, Scope,
    SystemCall, Tag,
};
use crate::cite::Citation;
use crate::procedure::{Procedures, Runner, Step, Unfit, Verdict};
use crate::{Description, Variant};

use super::common::{
    ACCESS_REMOTE_VM, DEBUGGER, EMPTY, PROTECT_OPERATION, PROTECTED, PUBLISH, RESUME, STOP, SWITCH, THREAD,
    WRITE, WRITE_ONE, breakpoint, debugger, fresh, instruction, kernel, perform, procedures, stopped, stored,
    way,
};

pub(crate) static DESCRIPTION: Description = Description {
    name: "mips",
    isas: &["mips", "mips64"],
    variants: &[
        Variant {
            name: "vtag",
            what: "virtually tagged instruction cache (20KC and others), one CPU",
            caches: VTAG,
            operations: OPERATIONS,
            procedures: VTAG_PROCEDURES,
        },
        Variant {
            name: "aliasing-d",
            what: "data cache with colours",
            caches: ALIASING,
            operations: OPERATIONS,
            procedures: procedures(
                DEBUGGER,
                Verdict::Unfit(OTHER_COLOUR),
                Verdict::Unfit(OTHER_COLOUR),
                TARGET,
            ),
        },
        Variant {
            name: "plain",
            what: "no colours, physical tags",
            caches: PLAIN,
            operations: OPERATIONS,
            procedures: procedures(DEBUGGER, ALIAS, ALIAS_ONE, TARGET),
        },
    ],
};

const VTAG_PROCEDURES: Procedures = procedures(
    debugger(
        fresh(&[way(&[WRITE, FLUSH, PUBLISH])]),
        stopped(&[way(&[STOP, EMPTY, WRITE, FLUSH, RESUME])]),
        breakpoint(&[way(&[STOP, WRITE_ONE, FLUSH, RESUME])]),
    ),
    ALIAS,
    ALIAS_ONE,
    TARGET,
);
const ALIAS: Verdict = fresh(&[way(&[WRITE, FLUSH, PUBLISH])]);
const ALIAS_ONE: Verdict = breakpoint(&[way(&[STOP, WRITE_ONE, FLUSH, RESUME])]);
const TARGET: Verdict = stored(&[way(&[WRITE, FLUSH, PROTECTED, PUBLISH])]);
const OTHER_COLOUR: Unfit = Unfit {
    why: "the tracer's own mapping may have another colour, whose modified lines the target cannot write back",
    citations: &[COPY],
};

const SYNCI: Citation = Citation::Manual { title: "MIPS64 Instruction Set Reference", section: "SYNCI" };
const COPY: Citation = Citation::Kernel { path: "arch/mips/mm/init.c", symbol: "copy_to_user_page" };
const FLUSH_PAGE: Citation =
    Citation::Kernel { path: "arch/mips/mm/c-r4k.c", symbol: "local_r4k_flush_cache_page" };
const FLUSH_RANGE: Citation =
    Citation::Kernel { path: "arch/mips/mm/c-r4k.c", symbol: "r4k_flush_icache_range" };
const CACHEFLUSH: Citation = Citation::Kernel { path: "arch/mips/mm/cache.c", symbol: "cacheflush" };
const NEW_CONTEXT: Citation =
    Citation::Kernel { path: "arch/mips/mm/context.c", symbol: "get_new_mmu_context" };
const UPDATE_CACHE: Citation = Citation::Kernel { path: "arch/mips/mm/cache.c", symbol: "__update_cache" };

const PLAIN: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::None,
        index: Index::Physical,
        tag: Tag::Physical,
        citations: &[SYNCI, THREAD],
    },
    data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: true, citations: &[SYNCI] },
    prefetch: Prefetch { sees_own_stores: false, sees_other_stores: false, citations: &[SYNCI] },
    context_switch: ContextSwitch { citations: &[NEW_CONTEXT], ..SWITCH },
    kernel_exit: KernelExit {
        always_synchronises: true,
        interrupts_synchronise: true,
        note: "`eret` clears instruction hazards",
        citations: &[SYNCI],
    },
    mapping: Mapping {
        makes_marked_pages_agree: true,
        tlb_flush_renews_number: false,
        citations: &[UPDATE_CACHE],
    },
    debugger_write: &[care(&[K_PAGE], "a copy, then the page's data and instruction lines on every CPU")],
    is_smp: true,
};

const VTAG: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::None,
        index: Index::Virtual,
        tag: Tag::VirtualWithSpaceNumber,
        citations: &[FLUSH_PAGE, NEW_CONTEXT],
    },
    debugger_write: &[care(
        &[K_PAGE, K_BLAST_USER],
        "a copy, then the page's lines: at the program's address where the address space is active, else at the kernel's",
    )],
    is_smp: false,
    ..PLAIN
};

const ALIASING: Caches = Caches {
    instruction: InstructionCache { index: Index::Virtual, ..PLAIN.instruction },
    data: DataCache { aliasing: Aliasing::Colours(0x8000), fetch_needs_write_back: true, citations: &[COPY] },
    debugger_write: &[care(
        &[K_PAGE_ALIASED],
        "a copy through an address of the program's colour, then its lines on every CPU",
    )],
    ..PLAIN
};

const fn care(steps: &'static [Operation], note: &'static str) -> DebuggerWriteCare {
    DebuggerWriteCare {
        kernels: Kernels::ALL,
        at_executing_colour: true,
        before: &[],
        steps,
        hole: None,
        note,
        citations: &[ACCESS_REMOTE_VM, COPY, FLUSH_PAGE],
    }
}

const BOTH: &[Effect] = &[Effect::WriteBackData, Effect::InvalidateInstructions];
const K_PAGE: Operation =
    kernel("flush_cache_page", BOTH, Scope::EveryCpu, Finds::OwnAddress, Completes::AtOnce, &[FLUSH_PAGE]);
const K_PAGE_ALIASED: Operation = kernel(
    "flush_cache_page",
    BOTH,
    Scope::EveryCpu,
    Finds::ExecutingAddress,
    Completes::AtOnce,
    &[FLUSH_PAGE],
);
const K_BLAST_USER: Operation = kernel(
    "r4k_blast_icache_user_page",
    &[Effect::InvalidateInstructions],
    Scope::CpusRunningSpace,
    Finds::ExecutingAddress,
    Completes::AtOnce,
    &[FLUSH_PAGE],
);

const FLUSH_CALL: Means = Means::SystemCall(SystemCall::Cacheflush);
const OPERATIONS: &[Operation] = &[
    instruction(
        "synci",
        BOTH,
        Scope::ThisCpu,
        Finds::OwnAddress,
        Completes::AtOnce,
        "each line of the range, of the size in `rdhwr $1`; whether it reaches other CPUs is up to the implementation",
        &[SYNCI],
    ),
    instruction(
        "jr.hb",
        &[Effect::DropPrefetched],
        Scope::ThisCpu,
        Finds::Everything,
        Completes::AtOnce,
        "each CPU for itself",
        &[SYNCI],
    ),
    Operation {
        means: FLUSH_CALL,
        effects: BOTH,
        scope: Scope::EveryCpu,
        finds: Finds::ExecutingAddress,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "o32 4147, n64 5197, n32 6197; over the addresses of the caller, on every CPU that may hold them",
        citations: &[CACHEFLUSH, FLUSH_RANGE],
    },
    PROTECT_OPERATION,
];

const FLUSH: Step = perform(
    Runner::StoppedThread,
    FLUSH_CALL,
    "neither do fetches find what is in the data cache, nor do instruction lines at the executing address see stores",
    &[CACHEFLUSH, FLUSH_RANGE],
);
