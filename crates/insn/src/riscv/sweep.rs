//! Sweeps over stretches of code: where instructions begin, and what lies between a load-reserved and its store-conditional.

use std::ops::Range;

use crate::address::Address;
use crate::exclusive::{self, Role, Step};
use crate::isa::Isa;
use crate::riscv::analyze::{Kind, Register, decode, length};

/// See [`crate::decode::boundaries`].
pub(crate) fn boundaries(at: Address, bytes: &[u8], from: Address, to: Address) -> Option<Vec<Address>> {
    exclusive::boundaries(at, bytes, from, to, |_, rest| length(rest))
}

/// See [`crate::xol::exclusive_sequences`].
pub(crate) fn exclusive_sequences(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let steps = exclusive::steps(at, bytes, |here, rest| (rest.len() >= 2).then(|| step(isa, here, rest)));
    exclusive::sequences(&steps)
}

fn step(isa: Isa, at: Address, bytes: &[u8]) -> Step {
    let Some(insn) = decode(isa, at, bytes) else {
        // What is longer than an instruction can be is data; code may go on behind it.
        return Step { at, len: 2, role: Role::Other, falls_through: false, to: None };
    };
    let role = match insn.kind {
        Kind::LoadReserved => Role::Load,
        Kind::StoreConditional => Role::Store,
        _ => Role::Other,
    };
    let (falls_through, to) = match insn.kind {
        Kind::Branch { to, .. } => (true, Some(to)),
        Kind::Jump { link: Register::ZERO, to } => (false, Some(to)),
        // The store ends the reservation, another load begins one of its own; what is called or asked of the kernel is not
        // known.
        Kind::StoreConditional
        | Kind::LoadReserved
        | Kind::Jump { .. }
        | Kind::JumpRegister { .. }
        | Kind::Faults
        | Kind::Syscall => (false, None),
        _ => (true, None),
    };
    Step { at, len: insn.len, role, falls_through, to }
}
