//! Sweeps over stretches of code: where instructions begin, and what lies between a load-locked and its store-conditional.

use std::ops::Range;

use crate::address::Address;
use crate::alpha::analyze::{Kind, Register, WORD, decode};
use crate::exclusive::{self, Role, Step};

/// See [`crate::decode::boundaries`].
pub(crate) fn boundaries(at: Address, bytes: &[u8], from: Address, to: Address) -> Option<Vec<Address>> {
    exclusive::boundaries(at, bytes, from, to, |_, rest| (rest.len() >= WORD).then_some(WORD))
}

/// See [`crate::xol::exclusive_sequences`]. What lies between RS and RC begins anew at each trap too.
pub(crate) fn exclusive_sequences(at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let steps = exclusive::steps(at, bytes, |here, rest| (rest.len() >= WORD).then(|| step(here, rest)));
    exclusive::sequences(&steps)
}

fn step(at: Address, bytes: &[u8]) -> Step {
    let kind = decode(at, bytes);
    let role = match kind {
        Some(Kind::LoadLocked | Kind::SetFlag) => Role::Load,
        Some(Kind::StoreConditional | Kind::ClearFlag) => Role::Store,
        _ => Role::Other,
    };
    let (falls_through, to) = match kind {
        Some(Kind::Branch { to, .. } | Kind::FloatingBranch { to }) => (true, Some(to)),
        Some(Kind::Jump { link: Register::ZERO, to }) => (false, Some(to)),
        // What is called or asked of the kernel is not known, and what is no instruction is data.
        None | Some(Kind::Jump { .. } | Kind::JumpRegister { .. } | Kind::Syscall) => (false, None),
        _ if role != Role::Other => (false, None),
        _ => (true, None),
    };
    Step { at, len: WORD, role, falls_through, to }
}
