//! Sweeps over stretches of code: where instructions begin, and what lies between a load-exclusive and its store.

use std::ops::Range;

use crate::address::Address;
use crate::arm64::analyze::{Condition, Kind, LEN, decode};
use crate::exclusive::{self, Role, Step};

/// See [`crate::decode::boundaries`]: every fourth byte, code or data.
pub(crate) fn boundaries(at: Address, from: Address, to: Address) -> Option<Vec<Address>> {
    let first = from.0.checked_next_multiple_of(LEN as u64)?;
    at.0.is_multiple_of(LEN as u64).then(|| (first..=to.0).step_by(LEN).map(Address).collect())
}

/// See [`crate::xol::exclusive_sequences`]. The instruction behind a `pacm` is among them: if it signs, then with its own
/// address, which its slot does not have.
pub(crate) fn exclusive_sequences(at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let mut signed = Vec::new();
    let mut signs_next = false;
    let steps = exclusive::steps(at, bytes, |here, rest| {
        let kind = decode(here, rest.get(..LEN)?);
        if std::mem::replace(&mut signs_next, kind == Some(Kind::SignsNext)) {
            signed.push(here.span(LEN as u64));
        }
        Some(step(here, kind))
    });
    signed.extend(exclusive::sequences(&steps));
    exclusive::merged(signed)
}

fn step(at: Address, kind: Option<Kind>) -> Step {
    let role = match kind {
        Some(Kind::LoadExclusive) => Role::Load,
        Some(Kind::StoreExclusive) => Role::Store,
        _ => Role::Other,
    };
    let (falls_through, to) = match kind {
        Some(Kind::Branch { condition: Condition::Always, to, links: false }) => (false, Some(to)),
        Some(Kind::Branch { condition, to, .. }) if condition != Condition::Always => (true, Some(to)),
        // The store ends the access, another load begins one of its own; what is called, returned to or asked of the kernel is
        // not known.
        Some(
            Kind::LoadExclusive
            | Kind::StoreExclusive
            | Kind::Branch { .. }
            | Kind::BranchRegister { .. }
            | Kind::Authenticated { .. }
            | Kind::Faults
            | Kind::Syscall,
        )
        | None => (false, None),
        Some(_) => (true, None),
    };
    Step { at, len: LEN, role, falls_through, to }
}
