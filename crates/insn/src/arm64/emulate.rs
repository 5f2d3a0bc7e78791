//! What the tracer carries out on the registers: branches, `adr` and `adrp`, and what does nothing.
//!
//! PSTATE.BTYPE: a branch to a register leaves its kind there, and where the target lies in a guarded page and is not a landing
//! pad for that kind, a Branch Target exception follows; every other instruction clears it (chapter C6.2, BR, BLR, RET and BTI). The kernel keeps the two bits
//! of a thread whose registers are set (`SPSR_EL1_AARCH64_RES0_BITS`, arch/arm64/kernel/ptrace.c), so the check is made as in
//! place. One thing is not known here: whether the branch itself lies in a guarded page. `br` by another register than x16
//! and x17 would then only be let through to `bti j`; it is let through to `bti c` as well, as it is from a page that is not
//! guarded. That a probed instruction itself is no landing pad is not noticed: the breakpoint at its address is one.
//! (The kernel's `simulate_br_blr` leaves BTYPE as it was, so that nothing is checked.)
//!
//! A branch that authenticates runs in a slot and leaves nothing in BTYPE: its target is not checked.
//!
//! A tagged target: the architecture drops the tag (`AArch64.BranchAddr`; Linux has tags ignored in the lower half of the
//! address space, where programs are: `TCR_EL1.TBI0`, arch/arm64/mm/proc.S), and so does [`untagged`], for whoever sets the PC
//! need not.
//!
//! Not emulated is a guarded control stack (FEAT_GCS): what `bl` and `blr` push there, and `ret` pops. The register set does not
//! tell whether a thread has one.

use crate::address::Address;
use crate::arm64::abi::{self, ABI};
use crate::arm64::analyze::{Condition, Kind, LEN, Operand, Register, Test, Via};
use crate::xol::Fault;

/// PSTATE.BTYPE.
const BTYPE: u64 = 0b11 << 10;
/// What `br` leaves there, by x16 or x17 or from a page that is not guarded.
const BTYPE_JUMP: u64 = 0b01 << 10;
/// What `blr` leaves there.
const BTYPE_CALL: u64 = 0b10 << 10;

/// A stopped thread at an instruction of such a kind, which is at `at`.
pub(crate) fn carry_out(kind: Kind, at: Address, registers: &mut [u8]) -> Result<(), Fault> {
    let mut thread = Stopped { registers };
    let next = Address(at.0.wrapping_add(LEN as u64));
    let (to, btype) = match kind {
        Kind::Nothing => (next, 0),
        Kind::AddressOf { into, address } => {
            thread.set(into, address.0);
            (next, 0)
        }
        Kind::Branch { condition, to, links } => {
            if links {
                thread.set(Register::LINK, next.0);
            }
            (if thread.is_met(condition) { to } else { next }, 0)
        }
        // The target is read before the link is written: they may be one register.
        Kind::BranchRegister { register, via } => {
            let to = untagged(thread.get(register));
            if via == Via::Call {
                thread.set(Register::LINK, next.0);
            }
            (to, left_by(via))
        }
        _ => return Err(Fault::NotEmulated),
    };
    thread.go(to, btype);
    Ok(())
}

fn left_by(via: Via) -> u64 {
    match via {
        Via::Jump => BTYPE_JUMP,
        Via::Call => BTYPE_CALL,
        Via::Return => 0,
    }
}

/// Where a branch to that address goes.
pub(crate) fn untagged(to: u64) -> Address {
    let is_upper = to >> 55 & 1 == 1;
    Address(if is_upper { to } else { to & (u64::MAX >> 8) })
}

struct Stopped<'a> {
    registers: &'a mut [u8],
}

impl Stopped<'_> {
    fn get(&self, register: Register) -> u64 {
        abi::general(register.0).map_or(0, |slot| ABI.get(self.registers, slot))
    }

    fn set(&mut self, register: Register, value: u64) {
        if let Some(slot) = abi::general(register.0) {
            ABI.set(self.registers, slot, value);
        }
    }

    fn go(&mut self, to: Address, btype: u64) {
        let pstate = ABI.get(self.registers, abi::PSTATE);
        ABI.set(self.registers, abi::PSTATE, pstate & !BTYPE | btype);
        ABI.set(self.registers, abi::PC, to.0);
    }

    fn is_met(&self, condition: Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Flags(code) => holds(code, ABI.get(self.registers, abi::PSTATE)),
            Condition::Bit { register, bit, is_set } => (self.get(register) >> bit & 1 == 1) == is_set,
            Condition::Compare { register, with, test, bits } => {
                let right = match with {
                    Operand::Register(register) => self.get(register),
                    Operand::Number(number) => u64::from(number),
                };
                compares(test, self.get(register), right, bits)
            }
        }
    }
}

/// Whether two numbers of so many bits compare so.
fn compares(test: Test, left: u64, right: u64, bits: u32) -> bool {
    // Their own bits at the top keep the order of both kinds of number.
    let (left, right) = (left << (64 - bits), right << (64 - bits));
    let (left_signed, right_signed) = (left.cast_signed(), right.cast_signed());
    match test {
        Test::Equal => left == right,
        Test::NotEqual => left != right,
        Test::Greater => left_signed > right_signed,
        Test::GreaterOrEqual => left_signed >= right_signed,
        Test::Less => left_signed < right_signed,
        Test::Higher => left > right,
        Test::HigherOrSame => left >= right,
        Test::Lower => left < right,
    }
}

/// `ConditionHolds` (C1.2.4): 1111 always holds, too.
fn holds(code: u32, pstate: u64) -> bool {
    let [n, z, c, v] = [31, 30, 29, 28].map(|bit| pstate >> bit & 1 == 1);
    let result = match code >> 1 {
        0b000 => z,
        0b001 => c,
        0b010 => n,
        0b011 => v,
        0b100 => c && !z,
        0b101 => n == v,
        0b110 => n == v && !z,
        _ => return true,
    };
    result != (code & 1 == 1)
}
