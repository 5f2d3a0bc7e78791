//! The thread, replayed: what its participants argued about, and what kernels do since, each as a run of the model with
//! the verdict that is expected.
//!
//! In all of them a thread that hit a probe copies an instruction into its slot, through the kernel's mapping of the page,
//! does what the argument is about, returns from the trap, and executes the slot, on whatever CPU it is by then (only an
//! interrupt can have moved it). The functions of the kernel are operations like any other; nothing in the model knows them.

use crate::cache::{Allowed, Completes, Effect, Finds, Means, Operation, Scope};
use crate::model::{Finding, Run, Setup, Stage};
use crate::procedure::{Action, Part, Runner, Situation, Writer};
use crate::{Architecture, Variant};

/// What somebody said, or what a kernel does.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// A name for tables.
    pub name: &'static str,
    /// Whose caches.
    pub architecture: Architecture,
    /// Which of them.
    pub cache: &'static str,
    /// What is done after the copy.
    pub after: &'static [Kernel],
    /// The slot's page was mapped and executed before.
    pub is_mapped: bool,
    /// Whether it is right.
    pub holds: bool,
    /// Who said so, or where the kernel does so.
    pub said: &'static str,
}

/// What the kernel does after the copy, or instead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Another page is put in the place; nothing is copied.
    ReplacePage,
    /// `flush_dcache_page` where it only marks the page.
    MarkPage,
    /// Data and instruction lines by the kernel's address, on every CPU.
    FlushRange,
    /// Data lines by an address of the program's colour, and all instruction lines.
    FlushUserColour,
    /// `imb` here.
    ImbHere,
    /// `imb` on the CPUs that run the address space now.
    ImbWhereItRuns,
    /// `imb` on every CPU that ever ran the address space.
    ImbEverywhere,
    /// A new number on this CPU.
    RenumberHere,
    /// A new number here, none on the others.
    RenumberEverywhere,
    /// `fence.i` on every hart.
    FenceEverywhere,
    /// `ibar 0` here.
    Ibar,
}

impl Kernel {
    fn operation(self) -> Operation {
        const BOTH: &[Effect] = &[Effect::WriteBackData, Effect::InvalidateInstructions];
        const EMPTY: &[Effect] = &[Effect::InvalidateInstructions, Effect::DropPrefetched];
        const RENEW: &[Effect] = &[Effect::RenewSpaceNumber];
        let (name, effects, scope, finds): (_, &[Effect], _, _) = match self {
            Self::ReplacePage => {
                ("mmap over the page", &[Effect::ReplacePage], Scope::AddressSpace, Finds::Everything)
            }
            Self::MarkPage => {
                ("flush_dcache_page", &[Effect::MarkPage], Scope::AddressSpace, Finds::Everything)
            }
            Self::FlushRange => ("flush_icache_range", BOTH, Scope::EveryCpu, Finds::WrittenAddress),
            Self::FlushUserColour => ("flush_pfn_alias", BOTH, Scope::EveryCpu, Finds::ExecutingAddress),
            Self::ImbHere => ("imb", EMPTY, Scope::ThisCpu, Finds::Everything),
            Self::ImbWhereItRuns => {
                ("imb on the CPUs that run it", EMPTY, Scope::CpusRunningSpace, Finds::Everything)
            }
            Self::ImbEverywhere => {
                ("imb on every CPU of the mask", EMPTY, Scope::EveryCpu, Finds::Everything)
            }
            Self::RenumberHere => ("__load_new_mm_context", RENEW, Scope::ThisCpu, Finds::Everything),
            Self::RenumberEverywhere => ("flush_icache_user_page", RENEW, Scope::EveryCpu, Finds::Everything),
            Self::FenceEverywhere => ("flush_icache_all", EMPTY, Scope::EveryCpu, Finds::Everything),
            Self::Ibar => ("ibar 0", &[Effect::DropPrefetched], Scope::ThisCpu, Finds::Everything),
        };
        Operation {
            means: Means::Kernel(name),
            effects,
            scope,
            finds,
            completes: Completes::AtOnce,
            allowed: Allowed::Kernel,
            note: "",
            citations: &[],
        }
    }
}

/// The return from the kernel to the program, as an operation: it ends each scenario.
fn kernel_return(variant: &Variant) -> Operation {
    let effects: &[Effect] =
        if variant.caches.kernel_exit.interrupts_synchronise { &[Effect::DropPrefetched] } else { &[] };
    Operation {
        means: Means::Kernel("return to the program"),
        effects,
        scope: Scope::ThisCpu,
        ..Kernel::Ibar.operation()
    }
}

impl Scenario {
    /// The caches.
    #[must_use]
    pub fn variant(&self) -> Option<&'static Variant> {
        crate::description(self.architecture).variant(self.cache)
    }

    /// The run that checks it; `None` if there are no such caches.
    #[must_use]
    pub fn run(&self) -> Option<Run> {
        let variant = self.variant()?;
        let step = |action| Stage { by: Runner::StoppedThread, action };
        let copies = !self.after.contains(&Kernel::ReplacePage);
        let mut operations: Vec<Operation> = self.after.iter().map(|kernel| kernel.operation()).collect();
        operations.push(kernel_return(variant));
        let copy = copies.then(|| step(Action::Write(Part::All)));
        let stages =
            copy.into_iter().chain(operations.iter().map(|operation| step(Action::Perform(operation.means))));
        let setup = Setup {
            threads: 1,
            is_mapped: self.is_mapped,
            may_call: false,
            may_fork: false,
            ..Setup::of(&variant.caches)
        };
        Some(Run {
            caches: variant.caches,
            stages: stages.collect(),
            operations,
            care: None,
            writer: Writer::StoreThroughAlias,
            situation: Situation::FreshCode,
            setup,
        })
    }

    /// Checks it; `None` if there are no such caches.
    #[must_use]
    pub fn check(&self) -> Option<Finding> {
        self.run().map(|run| run.check())
    }
}

/// The slot's page was there before: a slot that is filled for each hit.
const fn slot(
    name: &'static str,
    architecture: Architecture,
    cache: &'static str,
    after: &'static [Kernel],
    holds: bool,
    said: &'static str,
) -> Scenario {
    Scenario { name, architecture, cache, after, is_mapped: true, holds, said }
}

/// The page is mapped by a fault at the first execution.
const fn first(
    name: &'static str,
    architecture: Architecture,
    cache: &'static str,
    after: &'static [Kernel],
    holds: bool,
    said: &'static str,
) -> Scenario {
    Scenario { is_mapped: false, ..slot(name, architecture, cache, after, holds, said) }
}

use Architecture::{Alpha, Arm, Arm64, Loongarch, Mips, Powerpc, Riscv, S390, Sh, Sparc, X86};

const MEMCPY: &str = "memcpy and nothing else";
const MARK: &str = "flush_dcache_page, page mapped before";
const MARK_FIRST: &str = "flush_dcache_page, page mapped afterwards";
const NULL_VMA: &str = "copy_to_user_page without a vma";
const REPLACED: &str = "another page mapped in the place, no flush";
const REPLACED_FLUSHED: &str = "another page mapped in the place, TLB flushed";

/// What was said in the thread.
pub const THREAD: &[Scenario] = &[
    slot(MEMCPY, X86, "snooping", &[], true, "right: it snoops, and a return from a trap serialises"),
    slot(MEMCPY, Sparc, "coherent", &[], true, "right where the instruction cache snoops"),
    slot(MEMCPY, Powerpc, "coherent", &[], true, "right where the instruction cache snoops"),
    slot(MEMCPY, S390, "coherent", &[], true, "right: coherent"),
    slot(MEMCPY, Powerpc, "noncoherent", &[], false, "not enough"),
    slot(MEMCPY, Arm, "v7", &[], false, "not enough: what the thread began with"),
    slot(MEMCPY, Alpha, "smp", &[], false, "not enough"),
    slot(MEMCPY, Mips, "plain", &[], false, "not enough"),
    slot(MEMCPY, Sh, "sh4", &[], false, "not enough"),
    first(MARK_FIRST, Powerpc, "noncoherent", &[Kernel::MarkPage], true, "why powerpc got by"),
    first(MARK_FIRST, Arm, "v7", &[Kernel::MarkPage], true, "why the first hit worked"),
    slot(MARK, Powerpc, "coherent", &[Kernel::MarkPage], true, "why powerpc got by"),
    slot(
        MARK,
        Powerpc,
        "noncoherent",
        &[Kernel::MarkPage],
        false,
        "latent: not observed, since most is emulated",
    ),
    slot(
        MARK,
        Arm,
        "v7",
        &[Kernel::MarkPage],
        false,
        "observed: stale instruction of the slot's user before",
    ),
    slot("imb on this CPU", Alpha, "smp", &[Kernel::ImbHere], false, "Linus: the thread may migrate"),
    slot(
        "no cross-CPU part if mm_users <= 1",
        Alpha,
        "smp",
        &[Kernel::RenumberHere],
        false,
        "wrong: the only thread comes back to a number that it left",
    ),
    slot(
        "Oleg's flush_icache_page_xxx",
        Alpha,
        "smp",
        &[Kernel::RenumberEverywhere],
        true,
        "Oleg; Linus agreed",
    ),
    slot("copy_to_user_page", Alpha, "smp", &[Kernel::RenumberEverywhere], true, "right"),
    slot("copy_to_user_page", Arm, "v7", &[Kernel::FlushRange], true, "right"),
    slot("copy_to_user_page", Mips, "plain", &[Kernel::FlushRange], true, "right"),
    slot(
        "imb on every CPU of the mm's mask",
        Alpha,
        "smp",
        &[Kernel::ImbEverywhere],
        true,
        "Linus: right, if no CPU leaves the mask while its number lives",
    ),
    slot(
        "imb on the mask, which CPUs leave",
        Alpha,
        "smp",
        &[Kernel::ImbWhereItRuns],
        false,
        "the question behind it: a CPU that left keeps lines and number",
    ),
    slot(
        "a cached vma that is not executable any more",
        Arm,
        "v7",
        &[],
        false,
        "the vma may be gone or another's; then the flush that depends on it is left out",
    ),
    slot(REPLACED, Alpha, "smp", &[Kernel::ReplacePage], false, "wrong where tags are virtual"),
    slot(REPLACED, Powerpc, "44x", &[Kernel::ReplacePage], false, "wrong where tags are virtual"),
    slot(REPLACED, Mips, "vtag", &[Kernel::ReplacePage], false, "wrong where tags are virtual"),
    slot(REPLACED, Arm, "v5-vivt", &[Kernel::ReplacePage], false, "wrong where tags are virtual"),
    slot(REPLACED, Arm, "v7", &[Kernel::ReplacePage], true, "harmless where tags are physical"),
    slot(
        REPLACED_FLUSHED,
        Alpha,
        "smp",
        &[Kernel::ReplacePage, Kernel::RenumberEverywhere],
        true,
        "what munmap does: a TLB flush is a new number",
    ),
    slot(NULL_VMA, Arm, "v7", &[Kernel::FlushRange], true, "David Long: arm needs nothing of the vma"),
    slot(NULL_VMA, Alpha, "smp", &[], false, "it is needed: what depends on it is left out"),
    slot(NULL_VMA, Sh, "sh4", &[], false, "it is needed: what depends on it is left out"),
    slot(NULL_VMA, Mips, "plain", &[], false, "it is needed: what depends on it is left out"),
    slot(NULL_VMA, Sparc, "spitfire", &[], false, "it is needed: what depends on it is left out"),
];

const XOL: &str = "arch_uprobe_copy_ixol";

/// What kernels do since, for a slot that is filled for each hit.
pub const KERNELS: &[Scenario] = &[
    slot(XOL, Arm64, "pipt", &[Kernel::FlushRange], true, "sync_icache_aliases on the kernel's mapping"),
    slot(
        "ic ivau on the kernel's mapping",
        Arm64,
        "vipt",
        &[Kernel::FlushRange],
        false,
        "why sync_icache_aliases invalidates everything where the cache is VIPT",
    ),
    slot(XOL, Arm, "v7", &[Kernel::FlushRange], true, "flush_uprobe_xol_access"),
    slot(
        XOL,
        Arm,
        "v6-aliasing",
        &[Kernel::FlushUserColour],
        false,
        "flush_uprobe_xol_access cleans the program's colour, the copy went through the kernel's (by reading)",
    ),
    slot(
        XOL,
        Arm,
        "v5-vivt",
        &[Kernel::FlushRange],
        false,
        "flush_uprobe_xol_access invalidates by the kernel's address, where tags are virtual (by reading)",
    ),
    slot(XOL, Powerpc, "coherent", &[Kernel::MarkPage], true, "flush_dcache_page"),
    slot(
        XOL,
        Powerpc,
        "noncoherent",
        &[Kernel::MarkPage],
        false,
        "flush_dcache_page only marks a page that is mapped",
    ),
    slot(XOL, Riscv, "incoherent", &[Kernel::FenceEverywhere], true, "flush_icache_range on every hart"),
    slot(XOL, Mips, "plain", &[Kernel::FlushRange], true, "flush_icache_range on the kernel's mapping"),
    slot(XOL, Mips, "aliasing-d", &[Kernel::FlushRange], false, "flush_icache_range by the kernel's colour"),
    slot(XOL, Mips, "vtag", &[Kernel::FlushRange], false, "flush_icache_range by the kernel's address"),
    slot(XOL, Sparc, "coherent", &[], true, "no flush"),
    slot(XOL, Sparc, "spitfire", &[], false, "no flush, and a CPU's own stores are not seen"),
    slot(XOL, S390, "coherent", &[], true, "no flush"),
    slot(XOL, Loongarch, "coherent", &[Kernel::Ibar], true, "ibar 0 here"),
    slot(
        "the word is unchanged, so nothing is done",
        Arm64,
        "pipt",
        &[Kernel::FlushRange],
        true,
        "the slot's user before has finished its flush, since a slot is one thread's until it is given back",
    ),
    slot(
        "the word is unchanged and its flush unfinished",
        Arm64,
        "pipt",
        &[],
        false,
        "what would happen if two threads could fill one slot",
    ),
];
