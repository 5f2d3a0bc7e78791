//! What a thread's registers hold.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::registers::{Registers, value};

/// Bits of SR that a program sets: T, S, Q, M.
const STATUS: u64 = 0x303;

/// Values that often are equal, near each other, or differ in their signs.
pub(super) fn random(rng: &mut TestRng) -> Registers {
    let mut registers = Registers::new(Isa::Sh);
    let common = [0, 1, 2, 0xffff_ffff, 0x8000_0000, 0x7fff_ffff, u64::from(rng.next_u32())];
    for (_, slot) in Isa::Sh.abi().registers {
        registers.set(*slot, value(&common, rng, TestRng::next_u64));
    }
    registers.set("sr", rng.next_u64() & STATUS);
    // As of a stopped thread: in no system call.
    Isa::Sh.abi().syscall.original_number.into_iter().for_each(|slot| registers.set(slot, u64::MAX));
    registers
}
