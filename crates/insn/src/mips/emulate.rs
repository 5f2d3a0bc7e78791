//! What the tracer carries out on the registers: branches by what these hold, and addresses relative to the instruction's own.

use crate::address::Address;
use crate::isa::Isa;
use crate::mips::analyze::{Branch, Condition, Delay, Kind, Register, Test, To, WORD};
use crate::xol::Fault;

/// A stopped thread at an instruction of such a kind at `at`.
pub(crate) fn carry_out(isa: Isa, at: Address, kind: Kind, registers: &mut [u8]) -> Result<(), Fault> {
    match kind {
        Kind::Branch(branch) => carry_out_branch(isa, at, branch, registers)?,
        Kind::Nothing => go(isa, registers, behind(isa, at, 1)),
        Kind::AddressOf { into, address } => {
            set(isa, registers, into, address.0);
            go(isa, registers, behind(isa, at, 1));
        }
        _ => return Err(Fault::NotEmulated),
    }
    Ok(())
}

/// The registers that the branch goes by are read before the link is written.
fn carry_out_branch(isa: Isa, at: Address, branch: Branch, registers: &mut [u8]) -> Result<(), Fault> {
    let next = behind(isa, at, if branch.delay == Delay::None { 1 } else { 2 });
    let to = match (is_taken(isa, branch.condition, registers)?, branch.to) {
        (false, _) => next,
        (true, To::Address(to)) => to,
        (true, To::Register(base)) => Address(get(isa, registers, base)),
    };
    set(isa, registers, branch.link, next.0);
    go(isa, registers, to);
    Ok(())
}

/// Whether a condition is met; what is not in the registers is not known.
pub(crate) fn is_taken(isa: Isa, condition: Condition, registers: &[u8]) -> Result<bool, Fault> {
    let Condition::Of { test, left, right } = condition else { return Err(Fault::NotEmulated) };
    let [left, right] = [left, right].map(|register| get(isa, registers, register));
    let unused = 64 - 8 * isa.abi().word;
    let [low, high] = [left, right].map(|value| (value << unused).cast_signed());
    Ok(match test {
        Test::Equal => left == right,
        Test::NotEqual => left != right,
        Test::Less => low < high,
        Test::NotLess => low >= high,
        Test::LessUnsigned => left < right,
        Test::NotLessUnsigned => left >= right,
    })
}

/// So many instructions behind `at`.
pub(crate) fn behind(isa: Isa, at: Address, count: u64) -> Address {
    isa.wrap(at + count * WORD as u64)
}

fn get(isa: Isa, registers: &[u8], register: Register) -> u64 {
    register.slot(isa).map_or(0, |slot| isa.abi().get(registers, slot))
}

fn set(isa: Isa, registers: &mut [u8], register: Register, value: u64) {
    if let Some(slot) = register.slot(isa) {
        isa.abi().set(registers, slot, value);
    }
}

/// Bit 0 of an address is the instruction set, in the PC that the kernel and stubs have too.
fn go(isa: Isa, registers: &mut [u8], to: Address) {
    isa.abi().set(registers, isa.abi().pc, to.0);
}
