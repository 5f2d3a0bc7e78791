//! A thread's registers by their names.

use insn::isa::RegisterSlot;
use insn::xol::{Fault, Memory};
use insn::{Address, Isa};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// An `NT_PRSTATUS` set.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) isa: Isa,
    pub(super) bytes: Vec<u8>,
}

impl Registers {
    pub(super) fn new(isa: Isa) -> Self {
        Self { isa, bytes: vec![0; isa.abi().regset_len] }
    }

    /// Values that often are equal, near each other, or differ in their signs; CR and XER have 32 bits.
    pub(super) fn random(isa: Isa, rng: &mut TestRng) -> Self {
        let mut registers = Self::new(isa);
        let common = [0, 1, 2, u64::MAX, 1 << 31, 1 << 32, 1 << 63, rng.next_u64()];
        for (name, _) in isa.abi().registers {
            let value = match rng.random_range(0..common.len() + 4) {
                index if index < common.len() => common[index],
                _ => rng.next_u64(),
            };
            match *name {
                "pc" | "msr" => {}
                "cr" => registers.set(name, u64::from(rng.next_u32())),
                // SO, OV, CA; the count of string instructions.
                "xer" => registers.set(name, u64::from(rng.next_u32() & 0xe000_007f)),
                _ => registers.set(name, value),
            }
        }
        registers
    }

    fn slot(&self, name: &str) -> RegisterSlot {
        let found = self.isa.abi().registers.iter().find(|register| register.0 == name);
        found.unwrap_or_else(|| panic!("no register {name}")).1
    }

    pub(super) fn get(&self, name: &str) -> u64 {
        self.isa.abi().get(&self.bytes, self.slot(name))
    }

    pub(super) fn set(&mut self, name: &str, value: u64) {
        let slot = self.slot(name);
        self.put(slot, value);
    }

    pub(super) fn put(&mut self, slot: RegisterSlot, value: u64) {
        self.isa.abi().set(&mut self.bytes, slot, value);
    }
}

impl std::fmt::Debug for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.isa.abi().registers.iter().map(|register| register.0);
        f.debug_map().entries(names.map(|name| (name, self.get(name)))).finish()
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
