//! A thread's registers by their numbers.

use insn::Isa;
use insn::isa::RegisterSlot;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// An `NT_PRSTATUS` set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers(pub(super) Vec<u8>);

pub(super) const PC: usize = 15;
pub(super) const CPSR: usize = 16;

/// CPSR.T, and the mode of programs.
pub(super) const T: u32 = 1 << 5;
const USER: u32 = 0x10;

impl Registers {
    pub(super) fn new() -> Self {
        Self(vec![0; Isa::Arm.abi().regset_len])
    }

    /// Values that often are equal, near each other, or differ in their signs.
    pub(super) fn random(isa: Isa, rng: &mut TestRng) -> Self {
        let mut registers = Self::new();
        let common = [0, 1, u32::MAX, 1 << 31, (1 << 31) - 1, rng.next_u32()];
        for number in 0..15 {
            let value = match rng.random_range(0..common.len() + 4) {
                index if index < common.len() => common[index],
                _ => rng.next_u32(),
            };
            registers.set(number, value);
        }
        let thumb = if isa == Isa::Thumb { T } else { 0 };
        registers.set(CPSR, rng.next_u32() & 0xf800_0000 | thumb | USER);
        registers
    }

    /// Puts a state of an IT block into CPSR.
    pub(super) fn set_it(&mut self, state: u32) {
        let cpsr = self.get(CPSR) & !(0b11 << 25 | 0b11_1111 << 10);
        self.set(CPSR, cpsr | state >> 2 << 10 | (state & 3) << 25);
    }

    pub(super) fn get(&self, number: usize) -> u32 {
        u32::try_from(Isa::Arm.abi().get(&self.0, RegisterSlot(4 * number))).unwrap()
    }

    pub(super) fn set(&mut self, number: usize, value: u32) {
        Isa::Arm.abi().set(&mut self.0, RegisterSlot(4 * number), u64::from(value));
    }
}
