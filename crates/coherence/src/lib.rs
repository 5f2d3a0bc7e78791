//! How does a copied instruction become visible to every CPU?
//!
//! One [`Description`] per ISA, as data: what its caches are like, which operations there are and how far each
//! reaches, what a context switch does; and for every way to write code ([`Writer`]) and every kind of code that may
//! be written ([`Situation`]) the [`Procedure`] that makes the new bytes the only ones that any CPU executes.
//!
//! The same data is executed by `target` when it publishes code, shown by `xol explain` and `xol coherence`
//! (`Display`), and checked by [`model`], which searches every order of events for a broken promise: no step has a
//! meaning that is not data here. Nothing in this crate runs on the caches of the machine it was compiled for.
//!
//! ```
//! use coherence::{Architecture, Requirement, Situation, Writer};
//!
//! let x86 = coherence::description(Architecture::X86);
//! let procedure = x86.procedure(Writer::DebuggerWrite, Situation::LiveTextStopped)?;
//! let way = procedure.way(|requirement| requirement == Requirement::MembarrierSyncCore);
//! for step in way.into_iter().flat_map(|way| way.steps) {
//!     println!("{}: {}", step.by, step.action);
//! }
//! # Ok::<(), coherence::Unfit>(())
//! ```
#![forbid(unsafe_code)]

pub mod cache;
pub mod cite;
mod isa;
pub mod model;
pub mod procedure;
pub mod render;
pub mod replay;
pub mod report;
pub mod table;

use serde::Serialize;

pub use cache::{Caches, DebuggerWriteCare, KernelVersion, Means, Operation, SystemCall};
pub use cite::Citation;
pub use procedure::{
    Action, Part, Procedure, Procedures, Requirement, Runner, Situation, Situations, Step, Unfit, Verdict,
    Way, Writer,
};

/// A family of ISAs with one cache architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Architecture {
    /// x86: 64-bit and 32-bit tasks alike.
    X86,
    /// arm64 (AArch64).
    Arm64,
    /// arm, 32-bit.
    Arm,
    /// powerpc, 32-bit and 64-bit.
    Powerpc,
    /// riscv.
    Riscv,
    /// alpha.
    Alpha,
    /// mips.
    Mips,
    /// sparc64.
    Sparc,
    /// sh.
    Sh,
    /// s390x.
    S390,
    /// loongarch.
    Loongarch,
}

impl Architecture {
    /// All that are described.
    pub const ALL: &[Self] = &[
        Self::X86,
        Self::Arm64,
        Self::Arm,
        Self::Powerpc,
        Self::Riscv,
        Self::Alpha,
        Self::Mips,
        Self::Sparc,
        Self::Sh,
        Self::S390,
        Self::Loongarch,
    ];

    /// Every name that [`Self::named`] knows, each once.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<&str> = Vec::new();
        for description in Self::ALL.iter().map(|architecture| description(*architecture)) {
            names.push(description.name);
            names.extend(description.isas.iter().filter(|isa| **isa != description.name));
        }
        names
    }

    /// The architecture by its own name or by the name of one of its ISAs (`x86`, `x86-64`, `i386`).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|architecture| {
            let description = description(*architecture);
            description.name == name || description.isas.contains(&name)
        })
    }
}

/// All that is known about keeping instruction fetch coherent on one architecture.
#[derive(Debug, Serialize)]
pub struct Description {
    /// The architecture's name.
    pub name: &'static str,
    /// The ISAs that it covers, by the names that they have in output.
    pub isas: &'static [&'static str],
    /// The kinds of caches that its CPUs have, the one that asks for most first.
    pub variants: &'static [Variant],
}

/// One kind of caches, and what to do about it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Variant {
    /// Its name, unique in the architecture.
    pub name: &'static str,
    /// Which CPUs are like this.
    pub what: &'static str,
    /// What the caches are like.
    pub caches: Caches,
    /// What software can do about them.
    pub operations: &'static [Operation],
    /// What to do, for each writer in each situation.
    pub procedures: Procedures,
}

impl Variant {
    /// What to do when `writer` writes in `situation`.
    ///
    /// # Errors
    /// The reason why this writer may not be used there.
    pub fn procedure(&self, writer: Writer, situation: Situation) -> Result<&Procedure, Unfit> {
        match self.procedures.of(writer).of(situation) {
            Verdict::Fit(procedure) => Ok(procedure),
            Verdict::Unfit(unfit) => Err(*unfit),
        }
    }

    /// What a kernel of that version does after a debugger's write.
    #[must_use]
    pub fn care_on(&self, kernel: KernelVersion) -> Option<&'static DebuggerWriteCare> {
        self.caches.debugger_write.iter().find(|care| care.kernels.contain(kernel))
    }

    /// The operation that a step performs by `means`.
    #[must_use]
    pub fn operation(&self, means: Means) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.means == means)
    }
}

impl Description {
    /// What to do when `writer` writes in `situation`, on the caches that ask for most.
    ///
    /// # Errors
    /// The reason why this writer may not be used there.
    pub fn procedure(&self, writer: Writer, situation: Situation) -> Result<&Procedure, Unfit> {
        self.variants[0].procedure(writer, situation)
    }

    /// The caches of that name.
    #[must_use]
    pub fn variant(&self, name: &str) -> Option<&Variant> {
        self.variants.iter().find(|variant| variant.name == name)
    }
}

/// The description of an architecture.
#[must_use]
pub fn description(architecture: Architecture) -> &'static Description {
    match architecture {
        Architecture::X86 => &isa::x86::DESCRIPTION,
        Architecture::Arm64 => &isa::arm64::DESCRIPTION,
        Architecture::Arm => &isa::arm::DESCRIPTION,
        Architecture::Powerpc => &isa::powerpc::DESCRIPTION,
        Architecture::Riscv => &isa::riscv::DESCRIPTION,
        Architecture::Alpha => &isa::alpha::DESCRIPTION,
        Architecture::Mips => &isa::mips::DESCRIPTION,
        Architecture::Sparc => &isa::sparc::DESCRIPTION,
        Architecture::Sh => &isa::sh::DESCRIPTION,
        Architecture::S390 => &isa::s390::DESCRIPTION,
        Architecture::Loongarch => &isa::loongarch::DESCRIPTION,
    }
}
