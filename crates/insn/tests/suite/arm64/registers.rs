//! A thread's registers by their numbers.

use std::fmt;

use insn::isa::RegisterSlot;
use insn::xol::{Fault, Memory};
use insn::{Address, Isa};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// An `NT_PRSTATUS` set.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Registers(pub(super) Vec<u8>);

/// Of the stack pointer, the PC and PSTATE in the set.
const SP: usize = 31;
pub(super) const PC: usize = 32;
pub(super) const PSTATE: usize = 33;
/// PSTATE.BTYPE.
pub(super) const BTYPE: u64 = 0b11 << 10;

impl Registers {
    /// Values that often are equal, near each other, or differ in their signs.
    pub(super) fn random(rng: &mut TestRng) -> Self {
        let mut registers = Self(vec![0; Isa::Arm64.abi().regset_len]);
        let common = [0, 1, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 63, rng.next_u64()];
        for number in 0..=SP {
            let value = match rng.random_range(0..common.len() + 4) {
                index if index < common.len() => common[index],
                _ => rng.next_u64(),
            };
            registers.set(number, value);
        }
        registers.set(PSTATE, u64::from(rng.next_u32() & 0xf000_0000));
        registers
    }

    /// By its place in the set.
    pub(super) fn get(&self, number: usize) -> u64 {
        Isa::Arm64.abi().get(&self.0, RegisterSlot(8 * number))
    }

    /// By its place in the set.
    pub(super) fn set(&mut self, number: usize, value: u64) {
        Isa::Arm64.abi().set(&mut self.0, RegisterSlot(8 * number), value);
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Isa::Arm64.abi().registers.iter().enumerate();
        f.debug_map()
            .entries(names.map(|(number, (name, _))| (*name, format!("{:#x}", self.get(number)))))
            .finish()
    }
}

/// Nothing that is emulated touches memory.
pub(super) struct NoMemory;

impl Memory for NoMemory {
    fn read(&mut self, at: Address, _: &mut [u8]) -> Result<(), Fault> {
        panic!("reads {at}")
    }

    fn write(&mut self, at: Address, _: &[u8]) -> Result<(), Fault> {
        panic!("writes {at}")
    }
}
