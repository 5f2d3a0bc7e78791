//! What the tracer carries out on the registers: branches, and the addresses that AUIPC computes (2.5, 2.4).

use crate::address::Address;
use crate::isa::Isa;
use crate::riscv::analyze::{Kind, Register, Test};
use crate::xol::Fault;

/// A stopped thread at an instruction of such a kind, with `next` behind it.
pub(crate) fn carry_out(isa: Isa, kind: Kind, next: Address, registers: &mut [u8]) -> Result<(), Fault> {
    let mut thread = Stopped { isa, registers };
    match kind {
        Kind::Jump { link, to } => {
            thread.set(link, next.0);
            thread.go(to);
        }
        // The base is read before the link is written: they may be one register.
        Kind::JumpRegister { link, base, offset } => {
            let to = Address(thread.get(base).wrapping_add_signed(offset) & !1);
            thread.set(link, next.0);
            thread.go(to);
        }
        Kind::Branch { test, left, right, to } => {
            let is_taken = thread.is_met(test, left, right);
            thread.go(if is_taken { to } else { next });
        }
        Kind::AddressOf { into, address } => {
            thread.set(into, address.0);
            thread.go(next);
        }
        _ => return Err(Fault::NotEmulated),
    }
    Ok(())
}

struct Stopped<'a> {
    isa: Isa,
    registers: &'a mut [u8],
}

impl Stopped<'_> {
    fn get(&self, register: Register) -> u64 {
        register.slot(self.isa).map_or(0, |slot| self.isa.abi().get(self.registers, slot))
    }

    fn set(&mut self, register: Register, value: u64) {
        if let Some(slot) = register.slot(self.isa) {
            self.isa.abi().set(self.registers, slot, value);
        }
    }

    fn go(&mut self, to: Address) {
        self.isa.abi().set(self.registers, self.isa.abi().pc, self.isa.wrap(to).0);
    }

    /// As a signed number of the ISA's width.
    fn signed(&self, register: Register) -> i64 {
        let unused = 64 - 8 * self.isa.abi().word;
        (self.get(register) << unused).cast_signed() >> unused
    }

    fn is_met(&self, test: Test, left: Register, right: Register) -> bool {
        match test {
            Test::Equal => self.get(left) == self.get(right),
            Test::NotEqual => self.get(left) != self.get(right),
            Test::Less => self.signed(left) < self.signed(right),
            Test::NotLess => self.signed(left) >= self.signed(right),
            Test::LessUnsigned => self.get(left) < self.get(right),
            Test::NotLessUnsigned => self.get(left) >= self.get(right),
        }
    }
}
