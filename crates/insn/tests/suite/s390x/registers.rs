//! What a thread's registers hold.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::registers::{Registers, value};

/// Bits 18 and 19 of the PSW's mask, the first being bit 0.
const CONDITION: u32 = 44;

/// Values that often are equal, near each other, or differ in their signs; any condition code in a mask that is `mask` otherwise.
pub(super) fn random(mask: u64, rng: &mut TestRng) -> Registers {
    let mut registers = Registers::new(Isa::S390x);
    let common = [0, 1, 2, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 63, rng.next_u64()];
    for number in 0..16_usize {
        registers.set(2 + number, value(&common, rng, TestRng::next_u64));
    }
    registers.set("pswm", mask & !(3 << CONDITION) | rng.random_range(0..4_u64) << CONDITION);
    registers
}

pub(super) fn condition(registers: &Registers) -> u64 {
    registers.get("pswm") >> CONDITION & 3
}
