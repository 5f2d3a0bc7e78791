//! What a thread's registers hold.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::registers::{Registers, value};

/// Of the stack pointer and PSTATE in the set.
const SP: usize = 31;
pub(super) const PSTATE: usize = 33;
/// PSTATE.BTYPE.
pub(super) const BTYPE: u64 = 0b11 << 10;

/// Values that often are equal, near each other, or differ in their signs.
pub(super) fn random(rng: &mut TestRng) -> Registers {
    let mut registers = Registers::new(Isa::Arm64);
    let common = [0, 1, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 63, rng.next_u64()];
    for number in 0..=SP {
        registers.set(number, value(&common, rng, TestRng::next_u64));
    }
    registers.set(PSTATE, u64::from(rng.next_u32() & 0xf000_0000));
    registers
}
