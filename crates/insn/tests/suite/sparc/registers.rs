//! What a thread's registers hold.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::registers::{Registers, value};

/// The condition codes in FSR: %fcc0; of 64 bits %fcc1 to %fcc3 too.
const RELATIONS: u64 = 3 << 10 | 0x3f << 32;

/// Values that often are equal, near each other, or differ in their signs; as often as not multiples of 4, as addresses to jump to.
/// Of state and FSR only the condition codes are not 0.
pub(super) fn random(isa: Isa, rng: &mut TestRng) -> Registers {
    let mut registers = Registers::new(isa);
    let common = [0, 1, 4, u64::MAX, 1 << 31, (1 << 31) - 4, 1 << 63, rng.next_u64()];
    for number in 1..32_usize {
        let value = value(&common, rng, TestRng::next_u64);
        registers.set(number, if rng.random() { value & !3 } else { value });
    }
    let (flags, codes) = if isa == Isa::Sparc { ("psr", 0xf << 20) } else { ("state", 0xff << 32) };
    registers.set(flags, rng.next_u64() & codes);
    registers.set("fsr", rng.next_u64() & RELATIONS);
    registers.set("y", u64::from(rng.next_u32()));
    registers
}
