//! The contract of execution out of line without a stub: what a tracer does with the one instruction under its breakpoint.
//!
//! A tracer that steps has one slot of executable memory. It either runs code there whose effect is the instruction's own, and
//! mends what depends on the address, or carries the instruction out on the registers that it holds. Which of both is the
//! ISA's, from the bytes alone. (The kernel's uprobes do the same: `arch_uprobe_analyze_insn` of each architecture.)

use std::ops::Range;

use thiserror::Error;

use crate::address::Address;
use crate::isa::{Isa, RegisterSlot};
use crate::plan::Reason;

/// How one instruction is carried out by a tracer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfLine {
    /// Bytes of the original instruction, without that in its delay slot.
    pub len: usize,
    /// What is done.
    pub how: How,
}

impl OutOfLine {
    /// How many of the bytes, which begin at `at`, it depends on: with the delay slot, which is as long as its branch on every ISA
    /// that has any, however the branch is carried out.
    #[must_use]
    pub fn depends_on(&self, isa: Isa, at: Address, bytes: &[u8]) -> usize {
        let own = bytes.get(..self.len).unwrap_or_default();
        let delays = delay_slot_of(isa, at + self.len as u64, own).is_some();
        if delays { 2 * self.len } else { self.len }
    }
}

/// See [`OutOfLine`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// Code is run in a slot.
    Slot(Slot),
    /// [`emulate`] does it.
    Emulated,
    /// A branch with a delay slot. [`emulate`] carries out the branch and says where the thread goes; before it does, the code
    /// in the slot is run, which ends in the instruction behind the branch, unless the branch [`annuls`] it. Where that faults
    /// the thread belongs back to the branch, or where the ISA can say so ([`crate::isa::Abi::next_pc`]) between the two.
    Delayed(Slot),
}

impl How {
    /// The code for a slot, if there is any.
    #[must_use]
    pub fn slot(&self) -> Option<&Slot> {
        match self {
            Self::Slot(slot) | Self::Delayed(slot) => Some(slot),
            Self::Emulated => None,
        }
    }
}

/// Code for a slot, which a tracer lets run into a breakpoint behind it; control always falls off its end. It holds one
/// instruction, and others that change lent registers only (alpha, mips). Where it faults nothing has happened: the thread
/// belongs back to the original address, and may go there from within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The code, for any address that is a multiple of its length.
    pub code: Vec<u8>,
    /// Registers that hold these values while the slot runs, and their own before and after.
    pub lent: Vec<(RegisterSlot, u64)>,
    /// Registers that belong set to these values once it has run and all is given back: what the instruction leaves there of
    /// its own address.
    pub left: Vec<(RegisterSlot, u64)>,
    /// Where the thread belongs behind it.
    pub then: Then,
}

/// Where a thread goes on behind a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Behind the original instruction.
    Next,
    /// To the address that this register holds when the slot has run. It is read before the register is given back what it
    /// held before, whether it was lent or not: the slot may change a register of the program's on the way (arm64's `autia`).
    /// The mode changes as the ISA has it ([`branch`]).
    Branch(RegisterSlot),
}

/// An instruction could not be carried out: the thread gets what it would get from it in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Memory that cannot be read or written.
    #[error("the memory at {0} cannot be accessed")]
    Memory(Address),
    /// The instruction is none that is emulated.
    #[error("the instruction is not one that is emulated")]
    NotEmulated,
}

/// Memory of the stopped thread. Whoever implements it is asked for at most 64 bytes at a time.
pub trait Memory {
    /// Fills `into`.
    ///
    /// # Errors
    /// [`Fault::Memory`].
    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), Fault>;
    /// Writes `bytes`.
    ///
    /// # Errors
    /// [`Fault::Memory`], and nothing was written.
    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault>;
}

/// How the instruction that `bytes` begin with, at `at`, is carried out. A branch's delay slot belongs to `bytes`.
///
/// # Errors
/// A [`Reason`] where it cannot be.
pub fn out_of_line(isa: Isa, at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    match isa {
        Isa::X86_64 | Isa::I386 => crate::x86::xol::out_of_line(isa, at, bytes),
        Isa::Arm64 => crate::arm64::xol::out_of_line(at, bytes),
        Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le => crate::powerpc::xol::out_of_line(isa, at, bytes),
        Isa::Arm | Isa::Thumb => crate::arm::xol::out_of_line(isa, at, bytes),
        Isa::RiscV32 | Isa::RiscV64 => crate::riscv::xol::out_of_line(isa, at, bytes),
        Isa::Sh => crate::sh::xol::out_of_line(at, bytes),
        Isa::Alpha => crate::alpha::xol::out_of_line(at, bytes),
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => {
            crate::mips::xol::out_of_line(isa, at, bytes)
        }
        Isa::Sparc | Isa::Sparc64 => crate::sparc::xol::out_of_line(isa, at, bytes),
        Isa::S390x => crate::s390x::xol::out_of_line(at, bytes),
    }
}

/// Carries out the instruction that `bytes` begin with, at `at`, on `registers` (an `NT_PRSTATUS` set), the PC included.
/// Where it fails nothing was changed.
///
/// # Errors
/// A [`Fault`].
pub fn emulate(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    registers: &mut [u8],
    memory: &mut dyn Memory,
) -> Result<(), Fault> {
    match isa {
        Isa::X86_64 | Isa::I386 => crate::x86::xol::emulate(isa, at, bytes, registers, memory),
        Isa::Arm64 => crate::arm64::xol::emulate(at, bytes, registers),
        Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le => {
            crate::powerpc::xol::emulate(isa, at, bytes, registers)
        }
        Isa::Arm | Isa::Thumb => crate::arm::xol::emulate(isa, at, bytes, registers, memory),
        Isa::RiscV32 | Isa::RiscV64 => crate::riscv::xol::emulate(isa, at, bytes, registers),
        Isa::Sh => crate::sh::xol::emulate(at, bytes, registers, memory),
        Isa::Alpha => crate::alpha::xol::emulate(at, bytes, registers),
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => {
            crate::mips::xol::emulate(isa, at, bytes, registers)
        }
        Isa::Sparc | Isa::Sparc64 => crate::sparc::xol::emulate(isa, at, bytes, registers),
        Isa::S390x => crate::s390x::xol::emulate(at, bytes, registers, memory),
    }
}

/// Whether the branch that `bytes` begin with, at `at`, leaves out the instruction in its delay slot, when it is met with these
/// registers.
#[must_use]
pub fn annuls(isa: Isa, at: Address, bytes: &[u8], registers: &[u8]) -> bool {
    match isa {
        // No delay slots.
        Isa::X86_64
        | Isa::I386
        | Isa::Arm64
        | Isa::Arm
        | Isa::Thumb
        | Isa::PowerPc
        | Isa::PowerPc64
        | Isa::PowerPc64Le
        | Isa::RiscV32
        | Isa::RiscV64
        | Isa::Alpha
        | Isa::S390x => false,
        // `bt/s` and `bf/s` that are not taken go on behind their delay slots.
        Isa::Sh => false,
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => {
            crate::mips::xol::annuls(isa, at, bytes, registers)
        }
        Isa::Sparc | Isa::Sparc64 => crate::sparc::xol::annuls(isa, at, bytes, registers),
    }
}

/// The branch in whose delay slot the instruction at `at` is; `before` is what comes before it in the function.
#[must_use]
pub fn delay_slot_of(isa: Isa, at: Address, before: &[u8]) -> Option<Address> {
    match isa {
        // No delay slots.
        Isa::X86_64
        | Isa::I386
        | Isa::Arm64
        | Isa::Arm
        | Isa::Thumb
        | Isa::PowerPc
        | Isa::PowerPc64
        | Isa::PowerPc64Le
        | Isa::RiscV32
        | Isa::RiscV64
        | Isa::Alpha
        | Isa::S390x => None,
        Isa::Sh => crate::sh::sweep::delay_slot_of(at, before),
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => {
            crate::mips::xol::delay_slot_of(isa, at, before)
        }
        Isa::Sparc | Isa::Sparc64 => crate::sparc::sweep::delay_slot_of(isa, at, before),
    }
}

/// Brings a thread to `to`, as a branch does that takes its target from a register: sets the PC, and the mode where bits of
/// the target choose it (arm: bit 0 is Thumb). Tags of the target are dropped (arm64).
pub fn branch(isa: Isa, registers: &mut [u8], to: u64) {
    match isa {
        Isa::Arm64 => isa.abi().set_pc(registers, crate::arm64::emulate::untagged(to).0),
        Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le => crate::powerpc::xol::branch(isa, registers, to),
        Isa::Arm | Isa::Thumb => crate::arm::emulate::interwork(registers, to),
        _ => isa.abi().set_pc(registers, to),
    }
}

/// What of a function's bytes, which begin at `at`, is data that its own instructions find relative to themselves: on ISAs on which
/// compilers mix the two and no symbols tell them apart. A breakpoint there would be read instead of it.
#[must_use]
pub fn data(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    match isa {
        Isa::Sh => crate::sh::sweep::data(at, bytes),
        _ => Vec::new(),
    }
}

/// Sequences in `bytes`, which begin at `at`, that a breakpoint would make fail for ever: from a load-exclusive or
/// load-reserved to its store-conditional (an exception in between loses the reservation; Arm ARM B2.9.5, Power ISA Book II
/// 1.7.2, RISC-V unprivileged ISA 8.3, Alpha Architecture Handbook 4.2.4). Of s390x: transactions, and what is executed from
/// elsewhere. The addresses are of the instructions strictly behind the load, the store included.
#[must_use]
pub fn exclusive_sequences(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    match isa {
        Isa::Arm64 => crate::arm64::sweep::exclusive_sequences(at, bytes),
        Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le => {
            crate::powerpc::sweep::exclusive_sequences(isa, at, bytes)
        }
        Isa::Arm | Isa::Thumb => crate::arm::sweep::exclusive_sequences(isa, at, bytes),
        Isa::RiscV32 | Isa::RiscV64 => crate::riscv::sweep::exclusive_sequences(isa, at, bytes),
        Isa::Sh => crate::sh::sweep::exclusive_sequences(at, bytes),
        Isa::Alpha => crate::alpha::sweep::exclusive_sequences(at, bytes),
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => {
            crate::mips::sweep::exclusive_sequences(isa, at, bytes)
        }
        Isa::S390x => crate::s390x::sweep::exclusive_sequences(at, bytes),
        _ => Vec::new(),
    }
}
