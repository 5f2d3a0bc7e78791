//! What the tracer carries out on the registers: branches (chapter 7, "Branch" instructions), `larl`, and the two comparisons that
//! have no form with a base register.

use std::cmp::Ordering;

use crate::address::Address;
use crate::field::signed;
use crate::isa::{Isa, RegisterSlot};
use crate::s390x::abi::{MASK, general};
use crate::s390x::analyze::{Kind, Register, Test, To, Width, With};
use crate::xol::{Fault, Memory};

/// The condition code: bits 18 and 19 of the PSW, the first being bit 0.
const CONDITION: u32 = 63 - 19;

/// A stopped thread at an instruction of such a kind, with `next` behind it.
pub(crate) fn carry_out(
    kind: Kind,
    next: Address,
    registers: &mut [u8],
    memory: &mut dyn Memory,
) -> Result<(), Fault> {
    let mut thread = Stopped { registers };
    let mut goes_to = next;
    match kind {
        Kind::Nothing => {}
        Kind::AddressOf { into, address } => thread.set(into, address.0),
        Kind::CompareHalfword { address, register, width } => {
            let other = u64::from(u16::from_be_bytes(read(memory, address)?));
            let code = match narrow(thread.get(register), width).cmp(&other) {
                Ordering::Equal => 0,
                Ordering::Less => 1,
                Ordering::Greater => 2,
            };
            thread.set_condition(code);
        }
        // The address is computed before a register is written; memory is read only by a branch that is taken, and by none that
        // writes one.
        Kind::Branch { to, test, link } => {
            let sum = thread.sum(to);
            if thread.is_met(test) {
                goes_to = match to {
                    To::Address(address) => address,
                    To::Sum { .. } => sum,
                    To::Memory { .. } => Address(u64::from_be_bytes(read(memory, sum)?)),
                    To::Nowhere => next,
                };
            }
            if let Some(link) = link {
                thread.set(link, next.0);
            }
        }
        _ => return Err(Fault::NotEmulated),
    }
    Isa::S390x.abi().set_pc(thread.registers, goes_to.0);
    Ok(())
}

fn read<const LEN: usize>(memory: &mut dyn Memory, at: Address) -> Result<[u8; LEN], Fault> {
    let mut bytes = [0; LEN];
    memory.read(at, &mut bytes)?;
    Ok(bytes)
}

/// The part of a register that counts.
fn narrow(value: u64, width: Width) -> u64 {
    match width {
        Width::Low => value & u64::from(u32::MAX),
        Width::High => value >> 32,
        Width::Wide => value,
    }
}

struct Stopped<'a> {
    registers: &'a mut [u8],
}

impl Stopped<'_> {
    fn slot(&self, slot: RegisterSlot) -> u64 {
        Isa::S390x.abi().get(self.registers, slot)
    }

    fn get(&self, register: Register) -> u64 {
        self.slot(general(register.into()))
    }

    fn set(&mut self, register: Register, value: u64) {
        Isa::S390x.abi().set(self.registers, general(register.into()), value);
    }

    /// Sets the part of a register that counts.
    fn set_part(&mut self, register: Register, width: Width, value: u64) {
        let low = u64::from(u32::MAX);
        let own = self.get(register);
        self.set(
            register,
            match width {
                Width::Low => own & !low | value & low,
                Width::High => own & low | value << 32,
                Width::Wide => value,
            },
        );
    }

    fn set_condition(&mut self, code: u64) {
        let mask = self.slot(MASK) & !(3 << CONDITION) | code << CONDITION;
        Isa::S390x.abi().set(self.registers, MASK, mask);
    }

    /// The address of an operand: register 0 stands for none (chapter 5, "Address Generation").
    fn sum(&self, to: To) -> Address {
        let (To::Sum { base, index, displacement } | To::Memory { base, index, displacement }) = to else {
            return Address(0);
        };
        let part = |register| if register == 0 { 0 } else { self.get(register) };
        Address(part(base).wrapping_add(part(index)).wrapping_add_signed(displacement))
    }

    /// Whether a branch is taken, once the register that counts has been changed.
    fn is_met(&mut self, test: Test) -> bool {
        match test {
            Test::Always => true,
            Test::Condition(mask) => {
                let code = self.slot(MASK) >> CONDITION & 3;
                mask & 8 >> code != 0
            }
            Test::Count { register, width } => {
                let left = narrow(self.get(register), width).wrapping_sub(1);
                self.set_part(register, width, left);
                narrow(self.get(register), width) != 0
            }
            // The limit is read before the register is written: they may be one.
            Test::Index { register, step, width, is_high } => {
                let value = |register| self.value(register, width);
                let (increment, limit) = (value(step), value(step | 1));
                let sum = value(register).wrapping_add(increment);
                self.set_part(register, width, sum.cast_unsigned());
                (self.value(register, width) > limit) == is_high
            }
            Test::Compare { register, with, width, is_signed, mask } => {
                let left = self.get(register);
                let right = match with {
                    With::Register(other) => self.get(other),
                    With::Number(number) => number,
                };
                let bit = match order(left, right, width, is_signed) {
                    Ordering::Equal => 8,
                    Ordering::Less => 4,
                    Ordering::Greater => 2,
                };
                mask & bit != 0
            }
        }
    }

    /// As a signed number.
    fn value(&self, register: Register, width: Width) -> i64 {
        number(self.get(register), width)
    }
}

fn number(value: u64, width: Width) -> i64 {
    signed(narrow(value, width), if width == Width::Wide { 64 } else { 32 })
}

fn order(left: u64, right: u64, width: Width, is_signed: bool) -> Ordering {
    if is_signed {
        number(left, width).cmp(&number(right, width))
    } else {
        narrow(left, width).cmp(&narrow(right, width))
    }
}
