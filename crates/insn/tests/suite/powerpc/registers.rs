//! What a thread's registers hold.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::registers::{Registers, value};

/// Values that often are equal, near each other, or differ in their signs; CR and XER have 32 bits.
pub(super) fn random(isa: Isa, rng: &mut TestRng) -> Registers {
    let mut registers = Registers::new(isa);
    let common = [0, 1, 2, u64::MAX, 1 << 31, 1 << 32, 1 << 63, rng.next_u64()];
    for (name, slot) in isa.abi().registers {
        let value = value(&common, rng, TestRng::next_u64);
        match *name {
            "pc" | "msr" => {}
            "cr" => registers.set(*slot, u64::from(rng.next_u32())),
            // SO, OV, CA; the count of string instructions.
            "xer" => registers.set(*slot, u64::from(rng.next_u32() & 0xe000_007f)),
            _ => registers.set(*slot, value),
        }
    }
    registers
}
