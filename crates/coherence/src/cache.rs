//! What the caches of an architecture are like, and what can be done about them: the facts that the procedures
//! follow from, and the state a model of them needs.

use serde::Serialize;

use crate::cite::Citation;

/// The caches between a store and an instruction fetch.
#[derive(Debug, Serialize)]
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
    /// What the kernel does for a write by ptrace or /proc/PID/mem (`copy_to_user_page`).
    pub debugger_write: DebuggerWriteCare,
}

/// The instruction cache.
#[derive(Debug, Serialize)]
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
    /// The virtual address alone: flushed when the address space changes.
    Virtual,
    /// The virtual address and an address-space number; a number used again finds its old lines again.
    VirtualWithSpaceNumber,
}

/// The data cache.
#[derive(Debug, Serialize)]
pub struct DataCache {
    /// What software sees of aliases.
    pub aliasing: Aliasing,
    /// Whether a dirty line must be written back before an instruction fetch can find the bytes.
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
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
pub struct ContextSwitch {
    /// Switching to a thread of another address space drops what was fetched ahead.
    pub synchronises_between_spaces: bool,
    /// Switching to a thread of the same address space (or back from a kernel thread that borrowed it) does.
    pub synchronises_within_space: bool,
    /// An address space keeps its number on a CPU that it left, and may find old lines there when it comes back.
    pub keeps_space_number: bool,
    /// Where this is seen.
    pub citations: &'static [Citation],
}

/// How the kernel returns to the program.
#[derive(Debug, Serialize)]
pub struct KernelExit {
    /// Every return drops what was fetched ahead.
    pub always_synchronises: bool,
    /// In plain words.
    pub note: &'static str,
    /// Where this is seen.
    pub citations: &'static [Citation],
}

/// What the kernel does for the caches when a debugger writes into an executable mapping.
#[derive(Debug, Serialize)]
pub struct DebuggerWriteCare {
    /// It makes data and instruction caches agree, on every CPU.
    pub caches_agree: bool,
    /// It also makes every CPU drop what it fetched ahead.
    pub synchronises: bool,
    /// In plain words.
    pub note: &'static str,
    /// Where this is seen.
    pub citations: &'static [Citation],
}

/// Something that changes what a CPU will fetch.
#[derive(Debug, Serialize)]
pub struct Operation {
    /// How it is done; names the operation in procedures.
    pub means: Means,
    /// What it achieves.
    pub effect: Effect,
    /// On which CPUs.
    pub scope: Scope,
    /// Who may do it.
    pub allowed: Allowed,
    /// Limits worth knowing, in plain words.
    pub note: &'static str,
    /// Where this is promised.
    pub citations: &'static [Citation],
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
    /// A ptrace-stopped thread goes back to the program by `iret`: the tracer sets RF in its saved flags, which
    /// `sysret` and `sysexit` cannot restore; the CPU clears it after the next instruction, and no instruction of
    /// the program can see it.
    ResumeByIret,
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
}

impl SystemCall {
    /// The first argument of `membarrier` (include/uapi/linux/membarrier.h), where it is that call.
    #[must_use]
    pub fn membarrier_command(self) -> Option<u64> {
        match self {
            Self::MembarrierRegisterSyncCore => Some(1 << 6),
            Self::MembarrierSyncCore => Some(1 << 5),
            Self::MprotectReadExecute => None,
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
    /// A preparation without which another operation is refused.
    Prepare,
    /// Access rights change, and every CPU has forgotten the old ones.
    Protect,
}

/// On which CPUs an operation takes effect before it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The CPU that executes it.
    ThisCpu,
    /// Every CPU that runs the address space now; those that do not yet will have it when they switch to it.
    EveryCpuOfSpace,
    /// Every CPU of the machine.
    EveryCpu,
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
