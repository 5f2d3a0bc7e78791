//! Sweeps over stretches of code: where instructions begin, and what lies between a load-exclusive and its store.

use std::ops::Range;

use crate::address::Address;
use crate::arm::analyze::{ALWAYS, Condition, Decoded, Kind, Multiple, PC, decode};
use crate::exclusive::{self, Role, Step};
use crate::isa::Isa;

/// See [`crate::decode::boundaries`]. In A32 every fourth byte, code or data.
pub(crate) fn boundaries(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    from: Address,
    to: Address,
) -> Option<Vec<Address>> {
    exclusive::boundaries(at, bytes, from, to, |here, rest| decode(isa, here, rest).map(|insn| insn.len))
}

/// See [`crate::xol::exclusive_sequences`].
pub(crate) fn exclusive_sequences(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let mut conditional = 0;
    let steps = exclusive::steps(at, bytes, |here, rest| {
        let insn = decode(isa, here, rest)?;
        let is_conditional = insn.condition != ALWAYS || conditional > 0;
        conditional = match insn.kind {
            // The lowest bit of the mask ends the block: it is of up to four instructions.
            Kind::If(state) => 4 - (state & 0xf).trailing_zeros(),
            _ => conditional.saturating_sub(1),
        };
        Some(step(here, &insn, is_conditional))
    });
    exclusive::sequences(&steps)
}

/// What is done only on a condition may not be done.
fn step(at: Address, insn: &Decoded, is_conditional: bool) -> Step {
    let role = match insn.kind {
        Kind::LoadExclusive => Role::Load,
        Kind::StoreExclusive => Role::Store,
        _ => Role::Other,
    };
    let (falls_through, to) = match insn.kind {
        Kind::Branch { condition, to, links: false, .. } => (condition != Condition::Flags(ALWAYS), Some(to)),
        // The store ends the access, another load begins one of its own; what is called, returned to or asked of the kernel is
        // not known.
        Kind::LoadExclusive
        | Kind::StoreExclusive
        | Kind::ClearExclusive
        | Kind::Branch { .. }
        | Kind::BranchRegister { .. }
        | Kind::Through { writes: Some(_), .. }
        | Kind::Sum { into: PC, .. }
        | Kind::Multiple(Multiple { loads: true, .. })
        | Kind::Table { .. }
        | Kind::Faults
        | Kind::Syscall => (false, None),
        _ => (true, None),
    };
    Step { at, len: insn.len, role, falls_through: falls_through || is_conditional, to }
}
