//! A thread's registers by their numbers.

use insn::isa::RegisterSlot;
use insn::xol::{Fault, Memory};
use insn::{Address, Isa};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// An `NT_PRSTATUS` set: the PC in the place of x0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) isa: Isa,
    pub(super) bytes: Vec<u8>,
}

impl Registers {
    pub(super) fn new(isa: Isa) -> Self {
        Self { isa, bytes: vec![0; isa.abi().regset_len] }
    }

    /// Values that often are equal, near each other, or differ in their signs.
    pub(super) fn random(isa: Isa, rng: &mut TestRng) -> Self {
        let mut registers = Self::new(isa);
        let common = [0, 1, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 63, rng.next_u64()];
        for number in 1..32 {
            let value = match rng.random_range(0..common.len() + 4) {
                index if index < common.len() => common[index],
                _ => rng.next_u64(),
            };
            registers.set(number, value);
        }
        registers
    }

    fn slot(&self, number: usize) -> RegisterSlot {
        RegisterSlot(number * self.isa.abi().word)
    }

    pub(super) fn get(&self, number: usize) -> u64 {
        if number == 0 { 0 } else { self.isa.abi().get(&self.bytes, self.slot(number)) }
    }

    pub(super) fn set(&mut self, number: usize, value: u64) {
        if number != 0 {
            let slot = self.slot(number);
            self.isa.abi().set(&mut self.bytes, slot, value);
        }
    }

    pub(super) fn pc(&self) -> u64 {
        self.isa.abi().get(&self.bytes, self.isa.abi().pc)
    }

    pub(super) fn set_pc(&mut self, to: u64) {
        self.isa.abi().set(&mut self.bytes, self.isa.abi().pc, to);
    }

    /// As a signed number.
    pub(super) fn signed(&self, number: usize) -> i64 {
        let value = self.get(number).cast_signed();
        if self.isa == Isa::RiscV32 && value >= 1 << 31 { value - (1 << 32) } else { value }
    }
}

/// Nothing that is emulated reads memory.
pub(super) struct NoMemory;

impl Memory for NoMemory {
    fn read(&mut self, at: Address, _: &mut [u8]) -> Result<(), Fault> {
        panic!("reads {at}")
    }

    fn write(&mut self, at: Address, _: &[u8]) -> Result<(), Fault> {
        panic!("writes {at}")
    }
}
