//! What the tracer carries out on the registers: branches (2.4), and addresses relative to the instruction's own (3.3.9).

use crate::address::Address;
use crate::isa::{Isa, RegisterSlot};
use crate::powerpc::abi;
use crate::powerpc::analyze::{Condition, Kind, To};
use crate::powerpc::xol::branch;
use crate::xol::Fault;

/// A special register of the `NT_PRSTATUS` set, by its word.
pub(crate) struct Special(usize);

pub(crate) const LINK: Special = Special(abi::LR);
const COUNT: Special = Special(abi::CTR);
const CONDITION: Special = Special(abi::CR);

impl Special {
    pub(crate) fn slot(&self, isa: Isa) -> RegisterSlot {
        RegisterSlot(self.0 * isa.abi().word)
    }
}

/// Where a general register lies.
pub(crate) fn general(isa: Isa, number: u32) -> RegisterSlot {
    RegisterSlot(number as usize * isa.abi().word)
}

/// A stopped thread at an instruction of such a kind, with `next` behind it.
pub(crate) fn carry_out(isa: Isa, kind: Kind, next: Address, registers: &mut [u8]) -> Result<(), Fault> {
    let mut thread = Stopped { isa, registers };
    match kind {
        Kind::Nothing => thread.go(next),
        Kind::AddressOf { into, address } => {
            thread.set(general(isa, into), address.0);
            thread.go(next);
        }
        Kind::Branch { to, condition, links } => {
            // CTR is no target where it counts; LR is read before it is written.
            let to = match to {
                To::Address(to) => to,
                To::Link { .. } => Address(thread.get(LINK.slot(isa))),
                To::Count => Address(thread.get(COUNT.slot(isa))),
                To::Tar => return Err(Fault::NotEmulated),
            };
            let is_taken = thread.is_met(condition);
            if links {
                thread.set(LINK.slot(isa), next.0);
            }
            thread.go(if is_taken { to } else { next });
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
    fn get(&self, slot: RegisterSlot) -> u64 {
        self.isa.abi().get(self.registers, slot)
    }

    fn set(&mut self, slot: RegisterSlot, value: u64) {
        self.isa.abi().set(self.registers, slot, value);
    }

    fn go(&mut self, to: Address) {
        branch(self.isa, self.registers, to.0);
    }

    /// Whether the branch is taken, once CTR has been decremented where it counts. The register set of 32 bits has as much of
    /// CTR as counts in that mode.
    fn is_met(&mut self, condition: Condition) -> bool {
        let bit = |low: u32| condition.bo >> low & 1 == 1;
        let mut is_counted = true;
        if condition.counts() {
            let slot = COUNT.slot(self.isa);
            let left = self.get(slot).wrapping_sub(1);
            self.set(slot, left);
            is_counted = (self.get(slot) != 0) != bit(1);
        }
        let condition_bit = self.get(CONDITION.slot(self.isa)) >> (31 - condition.bi) & 1 == 1;
        is_counted && (!condition.tests_bit() || condition_bit == bit(3))
    }
}
