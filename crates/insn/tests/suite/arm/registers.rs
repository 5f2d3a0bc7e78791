//! What a thread's registers hold.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::registers::{Registers, value};

pub(super) const PC: usize = 15;
pub(super) const CPSR: usize = 16;

/// CPSR.T, and the mode of programs.
pub(super) const T: u64 = 1 << 5;
const USER: u64 = 0x10;

/// Values that often are equal, near each other, or differ in their signs.
pub(super) fn random(isa: Isa, rng: &mut TestRng) -> Registers {
    let mut registers = Registers::new(isa);
    let any = |rng: &mut TestRng| u64::from(rng.next_u32());
    let common = [0, 1, u64::from(u32::MAX), 1 << 31, (1 << 31) - 1, any(rng)];
    for number in 0..PC {
        registers.set(number, value(&common, rng, any));
    }
    let thumb = if isa == Isa::Thumb { T } else { 0 };
    registers.set(CPSR, any(rng) & 0xf800_0000 | thumb | USER);
    registers
}

/// Puts a state of an IT block into CPSR.
pub(super) fn set_it(registers: &mut Registers, state: u64) {
    let cpsr = registers.get(CPSR) & !(0b11 << 25 | 0b11_1111 << 10);
    registers.set(CPSR, cpsr | state >> 2 << 10 | (state & 3) << 25);
}
