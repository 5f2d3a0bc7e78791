//! What the tracer carries out on the registers: branches, loads relative to the PC, and the addresses that `mova` computes.

use crate::address::Address;
use crate::isa::{Isa, Order, RegisterSlot};
use crate::sh::abi;
use crate::sh::analyze::{Branch, Kind, LEN, To, When};
use crate::xol::{Fault, Memory};

/// The bit T of SR.
const T: u64 = 1;

/// A stopped thread at an instruction of such a kind, at `at`.
pub(crate) fn carry_out(
    kind: Kind,
    at: Address,
    registers: &mut [u8],
    memory: &mut dyn Memory,
) -> Result<(), Fault> {
    let mut thread = Stopped(registers);
    match kind {
        Kind::Branch(branch) => thread.branch(branch, at),
        Kind::Load { into, from, len } => {
            let mut bytes = [0; 4];
            let bytes = &mut bytes[..len];
            memory.read(from, bytes)?;
            let unused = 64 - 8 * len;
            let value = (Order::Little.number(bytes) << unused).cast_signed() >> unused;
            thread.set(abi::general(into), value.cast_unsigned());
            thread.go(at + LEN as u64);
        }
        Kind::AddressOf(address) => {
            thread.set(abi::general(0), address.0);
            thread.go(at + LEN as u64);
        }
        _ => return Err(Fault::NotEmulated),
    }
    Ok(())
}

struct Stopped<'a>(&'a mut [u8]);

impl Stopped<'_> {
    fn get(&self, slot: RegisterSlot) -> u64 {
        abi::ABI.get(self.0, slot)
    }

    fn set(&mut self, slot: RegisterSlot, value: u64) {
        abi::ABI.set(self.0, slot, value);
    }

    fn go(&mut self, to: Address) {
        self.set(abi::PC, Isa::Sh.wrap(to).0);
    }

    /// A delayed one that is not taken goes on behind its delay slot. PR is read before it is written, and the delay slot comes
    /// after both (10.1.15, BSR: `PR = PC + 4; PC = ...; Delay_Slot`).
    fn branch(&mut self, branch: Branch, at: Address) {
        let behind = at + if branch.is_delayed { 2 * LEN as u64 } else { LEN as u64 };
        let to = match branch.to {
            To::Address(to) => to,
            To::Register(register) => Address(self.get(abi::general(register))),
            To::Relative { register, pc } => pc + self.get(abi::general(register)),
            To::Return => Address(self.get(abi::PR)),
        };
        if branch.links {
            self.set(abi::PR, Isa::Sh.wrap(behind).0);
        }
        let is_taken = match branch.when {
            When::Always => true,
            When::T(is_set) => (self.get(abi::SR) & T != 0) == is_set,
        };
        self.go(if is_taken { to } else { behind });
    }
}
