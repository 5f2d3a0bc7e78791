//! Stubs: the code that a patched site runs.
//!
//! `entry of insn 0: [bodies of its probes] displaced insn 0; entry of insn 1: [bodies] displaced insn 1; ...; jmp back`

use insn::plan::{Patch, Reason};
use insn::relocate::{Exit, Point};
use insn::{Address, Isa};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// How a stub finds its shard of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardBy {
    /// The word at the thread pointer is the thread pointer (`%fs:0`, glibc and musl).
    ThreadPointer,
    /// The CPU's number (`rdpid`).
    Cpu,
    /// One shared shard.
    Shared,
}

/// How a stub finds its thread's slot, for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThreadBy {
    /// The word at the thread pointer (`%fs:0`).
    ThreadPointer,
    /// The thread base register (`rdfsbase`).
    Base,
}

/// What is the same for all stubs of an address space.
#[derive(Clone, Debug)]
pub struct Environment {
    /// ISA of the stubs.
    pub isa: Isa,
    /// Layout of the shared state.
    pub layout: Layout,
    /// Where the shared state is mapped in the target.
    pub state: Address,
    /// How counters are sharded.
    pub shard_by: ShardBy,
    /// How the thread slot is found.
    pub thread_by: ThreadBy,
}

/// What a probe does at its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Count the hit under this counter.
    Count {
        /// Index of the counter.
        probe: u32,
    },
    /// Count it and write an event record.
    Event {
        /// Index of the counter, and the record's probe number.
        probe: u32,
    },
}

/// The routines that stubs of a neighbourhood share: code with its notable places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routines {
    /// Where they were made for.
    pub at: Address,
    /// The code.
    pub bytes: Vec<u8>,
    /// Offset of the event routine. It is a leaf that uses no stack: while the PC is in it, the word at the stack
    /// pointer is the return address into the calling stub.
    pub event: u32,
    /// Breakpoints by which a thread asks for a slot: `(offset of the breakpoint, offset to go on at)`.
    pub asks: Vec<(u32, u32)>,
    /// Loads that may fault: `(offset, offset to go on at)`.
    pub recoveries: Vec<(u32, u32)>,
}

/// A stub: code with its notable places. All offsets are from `at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stub {
    /// Where it was made for.
    pub at: Address,
    /// The code, literals included.
    pub bytes: Vec<u8>,
    /// Per displaced instruction: where a thread that stands at its original address goes on, bodies included.
    pub entries: Vec<(Address, u32)>,
    /// State equations of the displaced instructions.
    pub points: Vec<Point>,
    /// Branches out: to original code.
    pub exits: Vec<Exit>,
    /// Loads that may fault: `(offset, offset to go on at)`.
    pub recoveries: Vec<(u32, u32)>,
}

impl Stub {
    /// Makes the stub of `patch` for the address `at`. `actions` gives each site's probes in the order they run.
    /// `bytes.len()` does not depend on `at` (within reach).
    ///
    /// # Errors
    /// The [`Reason`] of the displaced instruction that cannot run at `at`.
    pub fn assemble(
        environment: &Environment,
        routines: &Routines,
        patch: &Patch,
        actions: &dyn Fn(Address) -> Vec<Action>,
        at: Address,
    ) -> Result<Self, Reason> {
        match environment.isa {
            Isa::X86_64 => crate::x86_64::stub::assemble(environment, routines, patch, actions, at),
            _ => Err(Reason::Undecodable),
        }
    }
}

impl Routines {
    /// Makes the shared routines for the address `at`.
    #[must_use]
    pub fn assemble(environment: &Environment, at: Address) -> Self {
        crate::x86_64::routines::assemble(environment, at)
    }
}
