//! A register set as the kernel gives it, read and written through the ISA's slots.

use insn::Address;
use insn::isa::{Isa, RegisterSlot};

/// The `NT_PRSTATUS` registers of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    isa: Isa,
    bytes: Vec<u8>,
}

impl Registers {
    /// Registers from the kernel's bytes; `None` if their number is no known ISA's.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        Some(Self { isa: Isa::of_regset(bytes.len())?, bytes })
    }

    /// The ISA that the set's size tells.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The raw bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One register.
    #[must_use]
    pub fn get(&self, slot: RegisterSlot) -> u64 {
        self.bytes
            .get(slot.0..slot.0 + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    }

    /// Sets one register.
    pub fn set(&mut self, slot: RegisterSlot, value: u64) {
        if let Some(bytes) = self.bytes.get_mut(slot.0..slot.0 + 8) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// The program counter.
    #[must_use]
    pub fn pc(&self) -> Address {
        Address(self.get(self.isa.abi().pc))
    }

    /// Sets the program counter.
    pub fn set_pc(&mut self, pc: Address) {
        self.set(self.isa.abi().pc, pc.0);
    }

    /// The stack pointer.
    #[must_use]
    pub fn sp(&self) -> Address {
        Address(self.get(self.isa.abi().sp))
    }

    /// Sets the stack pointer.
    pub fn set_sp(&mut self, sp: Address) {
        self.set(self.isa.abi().sp, sp.0);
    }
}
