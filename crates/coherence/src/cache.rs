//! What the caches of an architecture are like, and what can be done about them: the facts that the procedures
//! follow from, and the state a model of them needs.

use std::fmt;

use serde::Serialize;

use crate::cite::Citation;

/// The caches between a store and an instruction fetch.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Caches {
    /// How the instruction cache learns of stores.
    pub instruction: InstructionCache,
    /// How stores leave the data cache.
    pub data: DataCache,
    /// What a CPU may have fetched or decoded ahead, behind the instruction cache.
    pub prefetch: Prefetch,
    /// What happens when a CPU goes on with another thread.
    pub context_switch: ContextSwitch,
    /// How the kernel returns to the program after a stop.
    pub kernel_exit: KernelExit,
    /// What the kernel does for caches when it maps a page or flushes TLBs.
    pub mapping: Mapping,
    /// What the kernel does for a write by ptrace or /proc/PID/mem (`copy_to_user_page`), the newest kernel first.
    pub debugger_write: &'static [DebuggerWriteCare],
    /// There are machines of this kind with more than one CPU.
    pub is_smp: bool,
}

/// The instruction cache.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct InstructionCache {
    /// Which stores it sees by itself.
    pub coherence: Coherence,
    /// What selects the set.
    pub index: Index,
    /// What tells lines of a set apart.
    pub tag: Tag,
    /// Why, and where this is promised.
    pub citations: &'static [Citation],
}

/// Which stores an instruction cache sees by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coherence {
    /// Every store by any CPU through any mapping.
    Snooped,
    /// Stores by other CPUs only.
    SnoopedRemotely,
    /// None: software must invalidate.
    None,
}

/// The address that selects a cache's set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Index {
    /// Physical, or virtual in such a way that no software can tell.
    Physical,
    /// Virtual: two mappings of a page may lie in different sets.
    Virtual,
}

/// What tells the lines of one set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tag {
    /// The physical address.
    Physical,
    /// The virtual address alone: lines of two address spaces cannot be told apart.
    Virtual,
    /// The virtual address and an address-space number; a number used again finds its old lines again.
    VirtualWithSpaceNumber,
}

/// The data cache.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DataCache {
    /// What software sees of aliases.
    pub aliasing: Aliasing,
    /// Whether a dirty line must be written back before an instruction fetch can find the bytes. Where not, either
    /// stores go through to memory, or fetches look into the data cache.
    pub fetch_needs_write_back: bool,
    /// Where this is promised.
    pub citations: &'static [Citation],
}

/// Whether two virtual addresses of one physical byte may be cached apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aliasing {
    /// Never, as far as software can tell.
    None,
    /// Unless the addresses agree modulo this many bytes (`SHMLBA`).
    Colours(u32),
}

/// Instructions that a CPU has taken in before it executes them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Prefetch {
    /// Whether a CPU drops what it fetched ahead when it stores to those bytes itself, at the same linear address.
    pub sees_own_stores: bool,
    /// Whether it does when another CPU, or another linear address, was used for the store. Where not, the CPU must
    /// synchronise before it executes the new bytes.
    pub sees_other_stores: bool,
    /// Where this is said.
    pub citations: &'static [Citation],
}

/// What a switch of threads does for instruction fetch on that CPU.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ContextSwitch {
    /// Switching to a thread of another address space drops what was fetched ahead.
    pub synchronises_between_spaces: bool,
    /// Switching to a thread of the same address space (or back from a kernel thread that borrowed it) does.
    pub synchronises_within_space: bool,
    /// An address space keeps its number on a CPU that it left, and may find old lines there when it comes back.
    pub keeps_space_number: bool,
    /// When the numbers of a CPU have all been given out, its instruction cache is emptied before the first is used
    /// again.
    pub number_reuse_flushes: bool,
    /// Switching to another address space writes the data cache back and empties the instruction cache.
    pub flushes_between_spaces: bool,
    /// A program that asked for it (an operation that prepares) has the instruction cache emptied wherever a thread of
    /// it is taken up that ran on another CPU before.
    pub flushes_if_prepared: bool,
    /// A program that asked for it (an operation that prepares) has a CPU drop what was fetched ahead when it comes back
    /// to a thread of it from the idle thread or another that borrowed the address space. Not when one thread of the
    /// program follows the other directly.
    pub synchronises_if_prepared: bool,
    /// Maintenance that the thread began is complete before it runs on another CPU.
    pub completes_maintenance: bool,
    /// Where this is seen.
    pub citations: &'static [Citation],
}

/// How the kernel returns to the program.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KernelExit {
    /// Every return drops what was fetched ahead.
    pub always_synchronises: bool,
    /// Every return from an interrupt or a trap does, if not from a system call.
    pub interrupts_synchronise: bool,
    /// In plain words.
    pub note: &'static str,
    /// Where this is seen.
    pub citations: &'static [Citation],
}

/// What the kernel does for caches when it maps a page or flushes TLBs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Mapping {
    /// When an executable page is mapped whose kernel mapping was written since (a page flag says so), data and
    /// instruction caches are made to agree.
    pub makes_marked_pages_agree: bool,
    /// A TLB flush of an address space gives it a new number on each CPU.
    pub tlb_flush_renews_number: bool,
    /// Where this is seen.
    pub citations: &'static [Citation],
}

/// What the kernel does for the caches when a debugger writes into an executable mapping.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DebuggerWriteCare {
    /// Which kernels do it like this.
    pub kernels: Kernels,
    /// The store goes through an address of the same colour as the program's.
    pub at_executing_colour: bool,
    /// What comes before the copy, when the kernel takes hold of the page.
    pub before: &'static [Operation],
    /// What follows the copy, on the CPU that copied; the thread that writes cannot be moved meanwhile.
    pub steps: &'static [Operation],
    /// What goes wrong with it, if anything does: the model has a counterexample to the shipped procedures then.
    pub hole: Option<&'static str>,
    /// In plain words.
    pub note: &'static str,
    /// Where this is seen.
    pub citations: &'static [Citation],
}

/// A kernel's version: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct KernelVersion(pub u32, pub u32, pub u32);

impl KernelVersion {
    /// The version of a release such as `6.1.0-13-amd64` or `7.3-rc1`; a patch that is missing is 0.
    #[must_use]
    pub fn of_release(release: &str) -> Option<Self> {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let release = release.trim();
        let (major, rest) = release.split_once('.')?;
        let (minor, rest) = rest.split_at(digits(rest));
        let patch = match rest.strip_prefix('.') {
            Some(patch) => patch[..digits(patch)].parse().ok()?,
            None => 0,
        };
        Some(Self(major.parse().ok()?, minor.parse().ok()?, patch))
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Versions from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct KernelRange {
    /// The first.
    pub from: KernelVersion,
    /// The first that does not belong to it any more; `None` where it has no end.
    pub before: Option<KernelVersion>,
}

/// Some kernel versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kernels {
    /// As text: which were read, and which merely count as these.
    pub text: &'static str,
    /// As ranges.
    pub ranges: &'static [KernelRange],
}

impl Kernels {
    /// All: no version is known that differs.
    pub const ALL: Self =
        Self { text: "all", ranges: &[KernelRange { from: KernelVersion(0, 0, 0), before: None }] };

    /// Whether a version is among them.
    #[must_use]
    pub fn contain(&self, version: KernelVersion) -> bool {
        let is_in =
            |range: &KernelRange| range.from <= version && range.before.is_none_or(|before| version < before);
        self.ranges.iter().any(is_in)
    }
}

/// Something that changes what a CPU will fetch.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Operation {
    /// How it is done; names the operation in procedures.
    pub means: Means,
    /// What it achieves, in this order.
    pub effects: &'static [Effect],
    /// On which CPUs.
    pub scope: Scope,
    /// Which lines it finds.
    pub finds: Finds,
    /// When it is done.
    pub completes: Completes,
    /// Who may do it.
    pub allowed: Allowed,
    /// Limits worth knowing, in plain words.
    pub note: &'static str,
    /// Where this is promised.
    pub citations: &'static [Citation],
}

impl Operation {
    /// Whether it acts on the lines of a range (or on all for the sake of one).
    #[must_use]
    pub fn is_maintenance(&self) -> bool {
        let maintains =
            |effect: &Effect| matches!(effect, Effect::WriteBackData | Effect::InvalidateInstructions);
        self.effects.iter().any(maintains)
    }
}

/// How an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Means {
    /// A system call by a thread of the target.
    SystemCall(SystemCall),
    /// An instruction of the ISA, by its mnemonic.
    Instruction(&'static str),
    /// A function of the kernel, by its name.
    Kernel(&'static str),
    /// A ptrace-stopped thread goes back to the program by `iret`: the tracer sets RF in its saved flags, which
    /// `sysret` and `sysexit` cannot restore; the CPU clears it after the next instruction, and no instruction of
    /// the program can see it.
    ResumeByIret,
    /// The tracer moves itself to a CPU by `sched_setaffinity`, which makes the CPU switch address spaces.
    Visit,
    /// The tracer reads the written bytes through `/proc/PID/mem`.
    ReadBack,
}

impl Means {
    /// Its name in commands: of an instruction the mnemonic alone.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SystemCall(call) => call.name(),
            Self::Instruction(text) => text.split(' ').next().unwrap_or(text),
            Self::Kernel(name) => name,
            Self::ResumeByIret => "iret",
            Self::Visit => "visit",
            Self::ReadBack => "read-back",
        }
    }
}

/// System calls that act on instruction fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SystemCall {
    /// `membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)`: once per address space.
    MembarrierRegisterSyncCore,
    /// `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)`.
    MembarrierSyncCore,
    /// `mprotect(range, len, PROT_READ | PROT_EXEC)`: takes the write permission that a store needed away again.
    MprotectReadExecute,
    /// `mprotect(range, PROT_READ)`, and `PROT_READ | PROT_EXEC` again: the kernel flushes TLBs for it.
    MprotectTwice,
    /// `cacheflush` of arm, mips or sh over the range.
    Cacheflush,
    /// `riscv_flush_icache(range, 0)`.
    RiscvFlushIcache,
    /// `prctl(PR_RISCV_SET_ICACHE_FLUSH_CTX, ON, PER_PROCESS)`.
    RiscvAllowFence,
}

impl SystemCall {
    fn name(self) -> &'static str {
        match self {
            Self::MembarrierRegisterSyncCore => "register",
            Self::MembarrierSyncCore => "membarrier",
            Self::MprotectReadExecute => "mprotect",
            Self::MprotectTwice => "mprotect-twice",
            Self::Cacheflush => "cacheflush",
            Self::RiscvFlushIcache => "riscv_flush_icache",
            Self::RiscvAllowFence => "prctl",
        }
    }

    /// The first argument of `membarrier` (include/uapi/linux/membarrier.h), where it is that call.
    #[must_use]
    pub fn membarrier_command(self) -> Option<u64> {
        match self {
            Self::MembarrierRegisterSyncCore => Some(1 << 6),
            Self::MembarrierSyncCore => Some(1 << 5),
            _ => None,
        }
    }
}

/// What an operation achieves on each CPU in its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Effect {
    /// Whatever was fetched or decoded ahead is dropped: the next instruction is fetched anew.
    DropPrefetched,
    /// Dirty data lines of the range are written back to where instruction fetch finds them.
    WriteBackData,
    /// Instruction lines of the range are dropped.
    InvalidateInstructions,
    /// Maintenance that the CPU began before is complete, everywhere.
    Complete,
    /// The address space has a new number, at once where it runs and with its next turn where it does not.
    RenewSpaceNumber,
    /// The page is marked as written by the kernel, so that caches are made to agree when it is mapped next.
    MarkPage,
    /// The place is another page from now on, which holds the new bytes in memory.
    ReplacePage,
    /// A preparation without which another operation is refused.
    Prepare,
    /// Access rights change, and every CPU has forgotten the old ones.
    Protect,
}

/// Which lines an operation finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finds {
    /// Those of the range, at the address that whoever performs it uses.
    OwnAddress,
    /// Those of the range, at the address where the program executes them.
    ExecutingAddress,
    /// Those of the range, at the address through which they were written.
    WrittenAddress,
    /// All of the cache.
    Everything,
}

/// When an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Completes {
    /// Before the next instruction.
    AtOnce,
    /// At any time, at the latest when the CPU that began it has executed an operation that completes.
    ByBarrier,
}

/// On which CPUs an operation takes effect before it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The CPU that executes it.
    ThisCpu,
    /// Every CPU that runs the address space now; those that do not yet will have it when they switch to it.
    EveryCpuOfSpace,
    /// Every CPU that runs the address space now, and no other.
    CpusRunningSpace,
    /// Every CPU of the machine.
    EveryCpu,
    /// Every CPU of the machine but the one that executes it.
    OtherCpus,
    /// The address space as such, not a CPU.
    AddressSpace,
}

/// Who may perform an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allowed {
    /// Any program.
    User,
    /// The tracer of a stopped thread.
    Tracer,
    /// The kernel only.
    Kernel,
    /// The hardware permits it, the ABI does not.
    ForbiddenByAbi,
}
