//! What the tracer carries out on the registers: the branches on integer registers, and the jumps (4.3).

use crate::address::Address;
use crate::alpha::abi::ABI;
use crate::alpha::analyze::{Kind, Register, Test};
use crate::xol::Fault;

/// A stopped thread at an instruction of such a kind, with `next` behind it.
pub(crate) fn carry_out(kind: Kind, next: Address, registers: &mut [u8]) -> Result<(), Fault> {
    match kind {
        Kind::Jump { link, to } => {
            set(registers, link, next);
            go(registers, to);
        }
        // The base is read before the link is written: they may be one register. Its low two bits do not count.
        Kind::JumpRegister { link, base, .. } => {
            let to = Address(get(registers, base) & !3);
            set(registers, link, next);
            go(registers, to);
        }
        Kind::Branch { test, register, to } => {
            let is_taken = is_met(test, get(registers, register));
            go(registers, if is_taken { to } else { next });
        }
        _ => return Err(Fault::NotEmulated),
    }
    Ok(())
}

fn is_met(test: Test, value: u64) -> bool {
    let signed = value.cast_signed();
    match test {
        Test::Zero => value == 0,
        Test::NotZero => value != 0,
        Test::Negative => signed < 0,
        Test::NotNegative => signed >= 0,
        Test::Positive => signed > 0,
        Test::NotPositive => signed <= 0,
        Test::Clear => value & 1 == 0,
        Test::Set => value & 1 == 1,
    }
}

fn get(registers: &[u8], register: Register) -> u64 {
    register.slot().map_or(0, |slot| ABI.get(registers, slot))
}

fn set(registers: &mut [u8], register: Register, value: Address) {
    if let Some(slot) = register.slot() {
        ABI.set(registers, slot, value.0);
    }
}

fn go(registers: &mut [u8], to: Address) {
    ABI.set(registers, ABI.pc, to.0);
}
