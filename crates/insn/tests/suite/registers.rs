//! A thread's registers by their numbers or names.

use std::fmt;

use insn::isa::RegisterSlot;
use insn::xol::{Fault, Memory, Slot, Then, branch};
use insn::{Address, Isa};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// An `NT_PRSTATUS` set.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) isa: Isa,
    pub(crate) bytes: Vec<u8>,
}

/// What says which one: its number in the set, its name, or its place.
pub(crate) trait Register {
    /// `None` for the one that is always 0.
    fn slot(self, isa: Isa) -> Option<RegisterSlot>;
}

impl Register for usize {
    fn slot(self, isa: Isa) -> Option<RegisterSlot> {
        // The number that is always 0, in whose place some sets have the PC; words in front of the first.
        let (zero, first) = match isa {
            Isa::RiscV32 | Isa::RiscV64 | Isa::Mips64 | Isa::Mips64Le | Isa::Sparc | Isa::Sparc64 => {
                (Some(0), 0)
            }
            Isa::Mips | Isa::MipsLe => (Some(0), 6),
            Isa::Alpha => (Some(31), 0),
            _ => (None, 0),
        };
        (zero != Some(self)).then(|| RegisterSlot((first + self) * isa.abi().word))
    }
}

impl Register for &str {
    fn slot(self, isa: Isa) -> Option<RegisterSlot> {
        let found = isa.abi().registers.iter().find(|register| register.0 == self);
        Some(found.unwrap_or_else(|| panic!("no register {self}")).1)
    }
}

impl Register for RegisterSlot {
    fn slot(self, _: Isa) -> Option<RegisterSlot> {
        Some(self)
    }
}

impl Registers {
    pub(crate) fn new(isa: Isa) -> Self {
        Self { isa, bytes: vec![0; isa.abi().regset_len] }
    }

    pub(crate) fn get(&self, register: impl Register) -> u64 {
        register.slot(self.isa).map_or(0, |slot| self.isa.abi().get(&self.bytes, slot))
    }

    pub(crate) fn set(&mut self, register: impl Register, value: u64) {
        if let Some(slot) = register.slot(self.isa) {
            self.isa.abi().set(&mut self.bytes, slot, value);
        }
    }

    pub(crate) fn pc(&self) -> u64 {
        self.get(self.isa.abi().pc)
    }

    pub(crate) fn set_pc(&mut self, to: u64) {
        self.isa.abi().set_pc(&mut self.bytes, to);
    }

    /// How many windows deeper than `other` these are, on SPARC: V9 numbers them upwards, V8 downwards (`CWP`).
    pub(crate) fn windows_above(&self, other: &Self) -> i64 {
        let number = |registers: &Self| registers.get(self.isa.abi().flags.unwrap()) & 7;
        let upwards = number(self).wrapping_sub(number(other)) & 7;
        let signed = if upwards < 4 { upwards.cast_signed() } else { upwards.cast_signed() - 8 };
        if self.isa == Isa::Sparc { -signed } else { signed }
    }

    /// As a tracer begins a slot at `at`: the registers are lent.
    pub(crate) fn in_front_of(&self, slot: &Slot, at: u64) -> Self {
        let mut moved = self.clone();
        slot.lent.iter().for_each(|(register, value)| moved.set(*register, *value));
        moved.set_pc(at);
        moved
    }

    /// As a tracer ends it, `before` having been the registers at an instruction of `len` bytes: reads where it goes on, gives
    /// back, leaves. Whether the slot has run to its end; where not, the thread is back at the instruction.
    pub(crate) fn go_on_behind(&mut self, before: &Self, slot: &Slot, at: u64, len: usize) -> bool {
        let offset = self.pc().wrapping_sub(at);
        let has_ended = offset == slot.code.len() as u64;
        // Before the last instruction others may stand, which have only changed what was lent.
        assert!(offset <= slot.code.len() as u64, "stands {offset:#x} behind the start of {slot:?}");
        let target = match slot.then {
            Then::Branch(register) => Some((register, self.get(register))),
            Then::Next => None,
        };
        let lent = slot.lent.iter().map(|(register, _)| *register);
        for register in lent.chain(target.map(|(register, _)| register)) {
            self.set(register, before.get(register));
        }
        self.set_pc(before.pc());
        if has_ended {
            slot.left.iter().for_each(|(register, value)| self.set(*register, *value));
            match target {
                Some((_, to)) => branch(self.isa, &mut self.bytes, to),
                None => self.set_pc(before.pc().wrapping_add(len as u64)),
            }
        }
        has_ended
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registers = self.isa.abi().registers.iter();
        f.debug_map()
            .entries(registers.map(|(name, slot)| (*name, format!("{:#x}", self.get(*slot)))))
            .finish()
    }
}

/// One of the common values, or any.
pub(crate) fn value(common: &[u64], rng: &mut TestRng, any: fn(&mut TestRng) -> u64) -> u64 {
    match rng.random_range(0..common.len() + 4) {
        index if index < common.len() => common[index],
        _ => any(rng),
    }
}

/// Where nothing that is emulated touches memory.
pub(crate) struct NoMemory;

impl Memory for NoMemory {
    fn read(&mut self, at: Address, _: &mut [u8]) -> Result<(), Fault> {
        panic!("reads {at}")
    }

    fn write(&mut self, at: Address, _: &[u8]) -> Result<(), Fault> {
        panic!("writes {at}")
    }
}
