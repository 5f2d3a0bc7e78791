//! What a tracer that steps asks of a process: the small seam below [`crate::stepper`].
//!
//! Everything stops and goes on together: while one thread's stop is looked at, no thread runs. The GDB remote protocol is like
//! that by nature; a native tracer can be made so with a table of registers per ISA and no more.

use std::time::Instant;

use insn::{Address, Isa};

use crate::error::TargetError;
use crate::registers::Registers;
use crate::seam::Tid;

/// What a kind of tracee can do: asked for, not assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Sets breakpoints itself ([`Tracee::insert_breakpoint`]).
    pub breakpoints: bool,
    /// Stops at breakpoint instructions that it did not set, as ours behind slots are.
    pub traps: bool,
    /// Steps one instruction ([`Go::Step`]).
    pub step: bool,
    /// Lets one of several threads run alone ([`Go::Only`]).
    pub threads: bool,
    /// An interrupt that finds another stop reported first comes as a stop of its own later.
    pub interrupts_wait: bool,
}

/// How a stopped tracee goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go<'a> {
    /// All threads run. These get a signal first.
    All(&'a [(Tid, i32)]),
    /// This thread runs, the others stand still.
    Only(Tid),
    /// This thread does one instruction, the others stand still.
    Step(Tid),
}

/// What happened to a thread, or to the process. All threads stand still then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A breakpoint: its PC is back at it.
    Breakpoint,
    /// About to receive this signal (the kernel's number), its PC as the kernel has it. SIGTRAP is also what comes of a step, and
    /// of a breakpoint where the tracee does not tell one from other traps.
    Signal(i32),
    /// Stopped because of [`Tracee::interrupt`].
    Interrupted,
    /// Libraries came or went.
    Libraries,
    /// A new thread, or whatever else needs nothing but to go on.
    Nothing,
    /// It made a process with a copy of its memory, which stands still.
    Fork(Tid),
    /// It made a process that runs in its memory, which stands still; it waits for that one's exec or end.
    Vfork(Tid),
    /// It executes this file now: another program in another memory.
    Exec(String),
    /// The process ended with this status.
    Exited(i32),
    /// The process ended by this signal.
    Killed(i32),
}

/// An event and the thread that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The thread; of an ended process, the process's number.
    pub tid: Tid,
    /// What happened.
    pub event: Event,
}

/// One traced process. Methods that need it stopped fail while it runs.
pub trait Tracee {
    /// The ISA of the process.
    fn isa(&self) -> Isa;
    /// Its number.
    fn process(&self) -> i32;
    /// What it can do.
    fn abilities(&self) -> Abilities;
    /// How many questions were asked so far, where each waits for an answer that travels.
    fn questions(&self) -> u64 {
        0
    }

    /// Its threads.
    ///
    /// # Errors
    /// What prevents asking.
    fn threads(&mut self) -> Result<Vec<Tid>, TargetError>;
    /// Registers of a thread.
    ///
    /// # Errors
    /// [`TargetError::Gone`], or what prevents asking.
    fn registers(&mut self, tid: Tid) -> Result<Registers, TargetError>;
    /// Sets the registers of a thread.
    ///
    /// # Errors
    /// As [`Self::registers`].
    fn set_registers(&mut self, tid: Tid, registers: &Registers) -> Result<(), TargetError>;

    /// Fills `into` from memory.
    ///
    /// # Errors
    /// [`TargetError::Memory`], or what prevents asking.
    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), TargetError>;
    /// Writes memory, code included.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), TargetError>;

    /// Sets a breakpoint over an instruction that begins with these bytes, in code of this ISA; reads of the memory show the
    /// program's own bytes all the same. For [`Abilities::breakpoints`].
    ///
    /// # Errors
    /// What prevents it.
    fn insert_breakpoint(&mut self, isa: Isa, at: Address, instruction: &[u8]) -> Result<(), TargetError>;
    /// Takes it out again.
    ///
    /// # Errors
    /// What prevents it.
    fn remove_breakpoint(&mut self, isa: Isa, at: Address, instruction: &[u8]) -> Result<(), TargetError>;

    /// Lets threads go on.
    ///
    /// # Errors
    /// What prevents it.
    fn go(&mut self, how: Go<'_>) -> Result<(), TargetError>;
    /// The next stop; `None` at the deadline: it runs on.
    ///
    /// # Errors
    /// What prevents waiting.
    fn wait(&mut self, deadline: Instant) -> Result<Option<Stop>, TargetError>;
    /// Asks it to stop ([`Event::Interrupted`]). Another stop may come first: see [`Abilities::interrupts_wait`].
    ///
    /// # Errors
    /// What prevents it.
    fn interrupt(&mut self) -> Result<(), TargetError>;
    /// Takes a process that was just made ([`Event::Fork`]) out of the tracee's hands, without the breakpoints that it inherited:
    /// those set by the tracee, at these places.
    ///
    /// # Errors
    /// What prevents it.
    fn let_go(&mut self, child: Tid, inserted: &[(Isa, Address, Vec<u8>)]) -> Result<(), TargetError>;
    /// Lets go of it: it runs on by itself.
    ///
    /// # Errors
    /// What prevents it.
    fn detach(&mut self) -> Result<(), TargetError>;
}
