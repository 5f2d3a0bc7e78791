//! Stubs: the code that a patched site runs.
//!
//! `entry of insn 0: [bodies of its probes] displaced insn 0; entry of insn 1: [bodies] displaced insn 1; ...; jmp back`

use std::borrow::Cow;

use insn::plan::{Patch, Reason};
use insn::relocate::{Exit, Point};
use insn::{Address, Isa};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::x86::stub::Source;
use crate::{i386, x86, x86_64};

/// How a stub finds its shard of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardBy {
    /// The word at the thread pointer is the thread pointer (`%fs:0`, on i386 `%gs:0`; glibc and musl).
    ThreadPointer,
    /// The CPU's number (`rdpid`).
    Cpu,
    /// One shared shard.
    Shared,
}

/// How a stub finds its thread's slot, for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThreadBy {
    /// The word at the thread pointer (`%fs:0`, on i386 `%gs:0`).
    ThreadPointer,
    /// The thread base register (`rdfsbase`; x86-64 only).
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
    /// Bytes below the stack pointer that are the program's: at most 128 (x86-64 psABI, 3.2.2; i386 has none). Whatever is saved
    /// goes below them, so a smaller number spares a small stack.
    pub red_zone: u8,
    /// Whether the processor knows `prefetchw`.
    pub prefetchw: bool,
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

impl Action {
    /// Its counter.
    #[must_use]
    pub fn probe(self) -> u32 {
        match self {
            Self::Count { probe } | Self::Event { probe } => probe,
        }
    }

    /// Whether it writes a record.
    #[must_use]
    pub fn records(self) -> bool {
        matches!(self, Self::Event { .. })
    }
}

/// A breakpoint by which a thread asks the holder for a slot ([`crate::threads::Table::assign`]).
///
/// The holder gives it one and sends the thread to `retry`, or sends it to `give_up`, where the event is counted as
/// lost. It must give up when the same thread asks again right after it was given a slot for the same key: the
/// routine itself would ask for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Offset of the breakpoint.
    pub offset: u32,
    /// Offset at which the thread looks for its slot again.
    pub retry: u32,
    /// Offset at which the event is counted as lost.
    pub give_up: u32,
    /// Number of the register that holds the key the thread looks for (the ISA's own encoding number).
    pub key: u32,
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
    /// The same for a program in which only one thread runs.
    pub event_alone: u32,
    /// Breakpoints by which a thread asks for a slot.
    pub asks: Vec<Ask>,
    /// Instructions that may fault: `(offset, offset to go on at)`.
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
    /// Instructions that may fault: `(offset, offset to go on at)`.
    pub recoveries: Vec<(u32, u32)>,
    /// What counts faster where only one thread runs: `(offset, bytes to stand there instead)`. Such a body begins and ends
    /// where the one does that it replaces, and none of it may fault.
    pub alone: Vec<(u32, Vec<u8>)>,
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
            Isa::X86_64 | Isa::I386 => {
                x86::stub::assemble(&Source { environment, routines, patch, actions }, at)
            }
            _ => Err(Reason::Undecodable),
        }
    }

    /// What to write: for a program in which only one thread runs, or for any.
    #[must_use]
    pub fn code(&self, alone: bool) -> Cow<'_, [u8]> {
        let mut code = Cow::from(&self.bytes);
        for (offset, part) in self.alone.iter().filter(|_| alone) {
            let place = code.to_mut().iter_mut().skip(*offset as usize);
            place.zip(part).for_each(|(byte, own)| *byte = *own);
        }
        code
    }

    /// Where the code of the two kinds of program differs: address, and the bytes for one with several threads.
    pub fn shared_bodies(&self) -> impl Iterator<Item = (Address, &[u8])> {
        self.alone.iter().filter_map(|(offset, part)| {
            let start = *offset as usize;
            Some((self.at + u64::from(*offset), self.bytes.get(start..start + part.len())?))
        })
    }

    /// Whether `pc` is in the stub.
    #[must_use]
    pub fn contains(&self, pc: Address) -> bool {
        offset_in(self.at, &self.bytes, pc).is_some()
    }

    /// The state equation of the machine instruction at `pc`, if it begins one of a displaced instruction.
    ///
    /// Where two describe one place, the later is meant: behind a moved system call the next instruction begins.
    #[must_use]
    pub fn point_at(&self, pc: Address) -> Option<&Point> {
        let offset = offset_in(self.at, &self.bytes, pc)?;
        self.points.iter().rfind(|point| point.offset == offset)
    }

    /// Where a thread that stands at the original `address` goes on.
    #[must_use]
    pub fn entry_of(&self, address: Address) -> Option<Address> {
        let entry = self.entries.iter().find(|entry| entry.0 == address)?;
        Some(self.at + u64::from(entry.1))
    }

    /// The original address whose entry is at `pc`: no body has run, the state is exactly the original one.
    #[must_use]
    pub fn entry_at(&self, pc: Address) -> Option<Address> {
        let offset = offset_in(self.at, &self.bytes, pc)?;
        self.entries.iter().find(|entry| entry.1 == offset).map(|entry| entry.0)
    }

    /// The branch out at `pc`.
    #[must_use]
    pub fn exit_at(&self, pc: Address) -> Option<&Exit> {
        let offset = offset_in(self.at, &self.bytes, pc)?;
        self.exits.iter().find(|exit| exit.offset == offset)
    }

    /// Where a thread goes on whose instruction of ours at `pc` faulted.
    #[must_use]
    pub fn recovery_at(&self, pc: Address) -> Option<Address> {
        recovery(self.at, &self.bytes, &self.recoveries, pc)
    }
}

impl Routines {
    /// Makes the shared routines for the address `at`.
    #[must_use]
    pub fn assemble(environment: &Environment, at: Address) -> Self {
        match environment.isa {
            Isa::X86_64 => x86_64::routines::assemble(environment, at),
            _ => i386::routines::assemble(environment, at),
        }
    }

    /// Whether `pc` is in the routines.
    #[must_use]
    pub fn contains(&self, pc: Address) -> bool {
        offset_in(self.at, &self.bytes, pc).is_some()
    }

    /// The question asked by the breakpoint at `pc` (the instruction's own address, not the one reported behind it).
    #[must_use]
    pub fn ask_at(&self, pc: Address) -> Option<&Ask> {
        let offset = offset_in(self.at, &self.bytes, pc)?;
        self.asks.iter().find(|ask| ask.offset == offset)
    }

    /// Where a thread goes on whose instruction of ours at `pc` faulted.
    #[must_use]
    pub fn recovery_at(&self, pc: Address) -> Option<Address> {
        recovery(self.at, &self.bytes, &self.recoveries, pc)
    }
}

fn offset_in(at: Address, bytes: &[u8], pc: Address) -> Option<u32> {
    u32::try_from(pc - at).ok().filter(|&offset| (offset as usize) < bytes.len())
}

fn recovery(at: Address, bytes: &[u8], recoveries: &[(u32, u32)], pc: Address) -> Option<Address> {
    let offset = offset_in(at, bytes, pc)?;
    recoveries.iter().find(|recovery| recovery.0 == offset).map(|recovery| at + u64::from(recovery.1))
}
