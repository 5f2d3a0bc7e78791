//! Sweeps over stretches of code: where instructions begin, and what lies between a load-linked and its store-conditional.

use std::ops::Range;

use crate::address::Address;
use crate::exclusive::{self, Role, Step};
use crate::isa::Isa;
use crate::mips::analyze::{Branch, Delay, Kind, Register, To, WORD, decode};
use crate::mips::emulate::behind;

/// See [`crate::decode::boundaries`].
pub(crate) fn boundaries(at: Address, bytes: &[u8], from: Address, to: Address) -> Option<Vec<Address>> {
    exclusive::boundaries(at, bytes, from, to, |_, rest| (rest.len() >= WORD).then_some(WORD))
}

/// See [`crate::xol::exclusive_sequences`]. Control goes on from a branch to its delay slot, and from there where the branch goes.
pub(crate) fn exclusive_sequences(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let mut before = None;
    let steps = exclusive::steps(at, bytes, |here, rest| {
        let kind = decode(isa, here, rest)?;
        let step = step(isa, here, kind, before);
        before = match kind {
            Kind::Branch(branch) if branch.delay != Delay::None => Some(branch),
            _ => None,
        };
        Some(step)
    });
    exclusive::sequences(&steps)
}

/// `before`: the branch in whose delay slot the instruction is.
fn step(isa: Isa, at: Address, kind: Kind, before: Option<Branch>) -> Step {
    let role = match kind {
        Kind::LoadLinked => Role::Load,
        Kind::StoreConditional => Role::Store,
        _ => Role::Other,
    };
    let (falls_through, to) = match (kind, before) {
        // The store ends what another load begins anew; what the kernel does is not known.
        (Kind::StoreConditional | Kind::Faults | Kind::Breakpoint | Kind::Syscall, _) => (false, None),
        (Kind::Branch(branch), _) => match branch.delay {
            Delay::Always => (true, None),
            Delay::IfTaken => (true, Some(behind(isa, at, 2))),
            Delay::None => onwards(branch),
        },
        (Kind::LoadLinked, None) => (false, None),
        (_, Some(branch)) if branch.delay == Delay::IfTaken => (false, onwards(branch).1),
        (_, Some(branch)) => onwards(branch),
        (_, None) => (true, None),
    };
    Step { at, len: WORD, role, falls_through, to }
}

/// Whether a branch may go on behind itself, and where else; what is called is not known.
fn onwards(branch: Branch) -> (bool, Option<Address>) {
    match branch.to {
        _ if branch.link != Register::ZERO => (false, None),
        To::Address(to) => (!branch.condition.is_always(), Some(to)),
        To::Register(_) => (false, None),
    }
}
