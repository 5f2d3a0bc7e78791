//! Sweeps over stretches of code: where instructions begin, and what lies between a load and reserve and its store.

use std::ops::Range;

use crate::address::Address;
use crate::exclusive::{self, Role, Step};
use crate::isa::Isa;
use crate::powerpc::analyze::{Decoded, Kind, To, decode, length};

/// See [`crate::decode::boundaries`]. A prefix is told from its own word, and none is the last of a block of 64 bytes: decoding
/// may begin at any block, whether a function is known there or not.
pub(crate) fn boundaries(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    from: Address,
    to: Address,
) -> Option<Vec<Address>> {
    exclusive::boundaries(at, bytes, from, to, |here, rest| length(isa, here, rest))
}

/// See [`crate::xol::exclusive_sequences`]. Every instruction is looked at: whatever a word is, the next begins behind it.
pub(crate) fn exclusive_sequences(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let steps =
        exclusive::steps(at, bytes, |here, rest| decode(isa, here, rest).map(|insn| step(here, &insn)));
    exclusive::sequences(&steps)
}

fn step(at: Address, insn: &Decoded) -> Step {
    let role = match insn.kind {
        Kind::LoadReserve => Role::Load,
        Kind::StoreConditional => Role::Store,
        _ => Role::Other,
    };
    let (falls_through, to) = match insn.kind {
        Kind::Branch { to: To::Address(to), condition, links: false } => (!condition.is_always(), Some(to)),
        Kind::Branch { condition, links: false, .. } => (!condition.is_always(), None),
        // The store ends the reservation, another load begins one of its own; what is called or asked of the kernel is not
        // known.
        Kind::LoadReserve
        | Kind::StoreConditional
        | Kind::Branch { .. }
        | Kind::Faults
        | Kind::Breakpoint
        | Kind::Syscall
        | Kind::SyscallVectored => (false, None),
        _ => (true, None),
    };
    Step { at, len: insn.len, role, falls_through, to }
}
