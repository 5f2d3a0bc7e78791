//! What a thread's registers hold.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::registers::{Registers, value};

/// Values that often are equal, near each other, or differ in their signs. What is the kernel's is left at 0.
pub(super) fn random(isa: Isa, rng: &mut TestRng) -> Registers {
    let mut registers = Registers::new(isa);
    let common = [0, 1, 2, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 63, rng.next_u64()];
    for (name, slot) in isa.abi().registers {
        let value = value(&common, rng, TestRng::next_u64);
        if !["pc", "status", "badvaddr", "cause"].contains(name) {
            registers.set(*slot, value);
        }
    }
    registers
}

/// As a signed number.
pub(super) fn signed(registers: &Registers, number: usize) -> i64 {
    extended(registers.get(number), 8 * registers.isa.abi().word)
}

/// The low bits of a number as a signed one.
pub(super) fn extended(value: u64, bits: usize) -> i64 {
    (value << (64 - bits)).cast_signed() >> (64 - bits)
}
