//! What a thread's registers hold.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::registers::{Registers, value};

/// Values that often are equal, near each other, or differ in their signs.
pub(super) fn random(isa: Isa, rng: &mut TestRng) -> Registers {
    let mut registers = Registers::new(isa);
    let common = [0, 1, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 63, rng.next_u64()];
    for number in 1..32_usize {
        registers.set(number, value(&common, rng, TestRng::next_u64));
    }
    registers
}

/// As a signed number.
pub(super) fn signed(registers: &Registers, number: usize) -> i64 {
    let value = registers.get(number).cast_signed();
    if registers.isa == Isa::RiscV32 && value >= 1 << 31 { value - (1 << 32) } else { value }
}
