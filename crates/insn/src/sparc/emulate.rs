//! What the tracer carries out on the registers: branches, and the address that `rd %pc` reads.

use crate::address::Address;
use crate::isa::Isa;
use crate::sparc::abi;
use crate::sparc::analyze::{Branch, Delay, Kind, LEN, Operand, Register, To, When};
use crate::xol::Fault;

/// A stopped thread at an instruction of such a kind, at `at`.
pub(crate) fn carry_out(isa: Isa, kind: Kind, at: Address, registers: &mut [u8]) -> Result<(), Fault> {
    let mut thread = Stopped { isa, registers };
    match kind {
        Kind::Nothing => {}
        Kind::AddressOf(into) => thread.set(into, at.0),
        Kind::Branch(branch) => return thread.branch(branch, at),
        _ => return Err(Fault::NotEmulated),
    }
    thread.go(at + LEN as u64);
    Ok(())
}

/// Whether a branch leaves out what is in its delay slot.
pub(crate) fn annuls(isa: Isa, branch: Branch, registers: &[u8]) -> bool {
    branch.delay == Delay::IfTaken && !is_met(isa, branch.when, registers)
}

struct Stopped<'a> {
    isa: Isa,
    registers: &'a mut [u8],
}

impl Stopped<'_> {
    fn set(&mut self, register: Register, value: u64) {
        if let Some(slot) = register.slot(self.isa) {
            self.isa.abi().set(self.registers, slot, value);
        }
    }

    fn go(&mut self, to: Address) {
        self.isa.abi().set_pc(self.registers, self.isa.wrap(to).0);
    }

    /// The sum is made before the link is written: they may be one register. A target that is no multiple of 4 makes a jump trap
    /// before anything is done (A.24, A.47).
    fn branch(&mut self, branch: Branch, at: Address) -> Result<(), Fault> {
        let to = match branch.to {
            To::Address(to) => to,
            To::Sum(base, operand) => {
                let sum = get(self.isa, self.registers, base).wrapping_add(value(
                    self.isa,
                    self.registers,
                    operand,
                ));
                self.isa.wrap(Address(sum))
            }
        };
        if !to.0.is_multiple_of(LEN as u64) {
            return Err(Fault::Memory(to));
        }
        let behind = at + if branch.delay == Delay::Never { LEN as u64 } else { 2 * LEN as u64 };
        let is_taken = is_met(self.isa, branch.when, self.registers);
        self.set(branch.link, at.0);
        self.go(if is_taken { to } else { behind });
        Ok(())
    }
}

fn get(isa: Isa, registers: &[u8], register: Register) -> u64 {
    register.slot(isa).map_or(0, |slot| isa.abi().get(registers, slot))
}

fn value(isa: Isa, registers: &[u8], operand: Operand) -> u64 {
    match operand {
        Operand::Register(register) => get(isa, registers, register),
        Operand::Number(number) => number.cast_unsigned(),
    }
}

fn is_met(isa: Isa, when: When, registers: &[u8]) -> bool {
    let flags = || isa.abi().flags.map_or(0, |slot| isa.abi().get(registers, slot));
    match when {
        When::Always => true,
        When::Integer { condition, is_extended } => {
            // CCR is in TSTATE from bit 32 on, %icc in its low half (5.2.1, 6.3); in PSR %icc is from bit 20 on (V8, 4.2).
            let low = match (isa, is_extended) {
                (Isa::Sparc, _) => 20,
                (_, false) => 32,
                (_, true) => 36,
            };
            holds(condition, flags() >> low)
        }
        When::Float { condition, codes } => {
            let fsr = if isa == Isa::Sparc { abi::FSR_32 } else { abi::FSR_64 };
            // 5.1.4.1.
            let low = [10, 32, 34, 36][codes as usize & 3];
            relation_holds(condition, isa.abi().get(registers, fsr) >> low)
        }
        When::Sign { condition, of } => {
            let value = get(isa, registers, of).cast_signed();
            let is_met = match condition & 3 {
                1 => value == 0,
                2 => value <= 0,
                _ => value < 0,
            };
            is_met != (condition & 4 != 0)
        }
        When::Compared { condition, is_extended, left, right } => {
            let unused = if is_extended { 0 } else { 32 };
            let left = get(isa, registers, left) << unused;
            let right = value(isa, registers, right) << unused;
            let less = left.cast_signed() < right.cast_signed();
            let negative = left.wrapping_sub(right).cast_signed() < 0;
            let codes = [left < right, negative != less, left == right, negative];
            holds(condition, (0..).zip(codes).map(|(bit, is_set)| u64::from(is_set) << bit).sum())
        }
    }
}

/// Whether a condition holds of the codes n, z, v, c, the low four bits (A.6).
fn holds(condition: u32, codes: u64) -> bool {
    let [c, v, z, n] = [0, 1, 2, 3].map(|bit| codes >> bit & 1 == 1);
    let is_met = match condition & 7 {
        0 => false,
        1 => z,
        2 => z || n != v,
        3 => n != v,
        4 => c || z,
        5 => c,
        6 => n,
        _ => v,
    };
    is_met != (condition & 8 != 0)
}

/// Whether a condition holds of two numbers: equal, less, greater, or unordered, the low two bits (A.4).
fn relation_holds(condition: u32, relation: u64) -> bool {
    const LESS: u8 = 1 << 1;
    const GREATER: u8 = 1 << 2;
    const UNORDERED: u8 = 1 << 3;
    let meant = match condition & 7 {
        0 => 0,
        1 => LESS | GREATER | UNORDERED,
        2 => LESS | GREATER,
        3 => LESS | UNORDERED,
        4 => LESS,
        5 => GREATER | UNORDERED,
        6 => GREATER,
        _ => UNORDERED,
    };
    (meant >> (relation & 3) & 1 == 1) != (condition & 8 != 0)
}
