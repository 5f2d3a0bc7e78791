//! Sweeps over stretches of code: where instructions begin, and delay slots. No sequence of instructions is exclusive.

use crate::address::Address;
use crate::isa::Isa;
use crate::sparc::analyze::{LEN, decode};

/// See [`crate::decode::boundaries`]: every fourth byte, code or data.
pub(crate) fn boundaries(at: Address, from: Address, to: Address) -> Option<Vec<Address>> {
    let first = from.0.checked_next_multiple_of(LEN as u64)?;
    at.0.is_multiple_of(LEN as u64).then(|| (first..=to.0).step_by(LEN).map(Address).collect())
}

/// See [`crate::xol::delay_slot_of`].
pub(crate) fn delay_slot_of(isa: Isa, at: Address, before: &[u8]) -> Option<Address> {
    let offset = before.len().checked_sub(LEN)?;
    let branch = Address(at.0.checked_sub(LEN as u64)?);
    decode(isa, branch, before.get(offset..)?)?.delayed().map(|_| branch)
}
