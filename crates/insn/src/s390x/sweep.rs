//! Sweeps over stretches of code: where instructions begin, and which a breakpoint would spoil.

use std::ops::Range;

use crate::address::Address;
use crate::exclusive::{self, Role, Step};
use crate::s390x::analyze::{Decoded, Kind, Test, To, decode, length};

/// See [`crate::decode::boundaries`].
pub(crate) fn boundaries(at: Address, bytes: &[u8], from: Address, to: Address) -> Option<Vec<Address>> {
    exclusive::boundaries(at, bytes, from, to, |_, rest| length(rest))
}

/// See [`crate::xol::exclusive_sequences`]: what lies between the begin and the end of a transaction, which each interruption aborts;
/// and what `exrl` executes: a breakpoint there is an illegal instruction of its own (the kernel looks for it where the PSW points).
pub(crate) fn exclusive_sequences(at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let mut executed = Vec::new();
    let steps = exclusive::steps(at, bytes, |here, rest| {
        let insn = decode(here, rest)?;
        if let Kind::Execute { target } = insn.kind {
            executed.push(target);
        }
        Some(step(here, &insn))
    });
    let mut ranges = exclusive::sequences(&steps);
    let end = at + bytes.len() as u64;
    let targets = executed.into_iter().filter(|target| (at..end).contains(target));
    ranges.extend(targets.filter_map(|target| {
        let len = length(bytes.get(usize::try_from(target - at).ok()?..)?)? as u64;
        Some(target..Address((target + len).0.min(end.0)))
    }));
    exclusive::merged(ranges)
}

fn step(at: Address, insn: &Decoded) -> Step {
    let role = match insn.kind {
        Kind::TransactionBegin => Role::Load,
        Kind::TransactionEnd => Role::Store,
        _ => Role::Other,
    };
    let (falls_through, to) = match insn.kind {
        Kind::Branch { to: To::Nowhere, .. } => (true, None),
        Kind::Branch { to: To::Address(to), test, link: None } => (test != Test::Always, Some(to)),
        Kind::Branch { test, link: None, .. } => (test != Test::Always, None),
        // The end ends it, another begin is looked at by itself; a call into the kernel aborts it, what is called is not known.
        Kind::TransactionBegin
        | Kind::TransactionEnd
        | Kind::Branch { .. }
        | Kind::Faults
        | Kind::Breakpoint
        | Kind::Syscall
        | Kind::Leaves(_) => (false, None),
        _ => (true, None),
    };
    Step { at, len: insn.len, role, falls_through, to }
}
