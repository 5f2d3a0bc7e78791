//! Sweeps over stretches of code: where instructions begin, and what lies between a load and reserve and its store.

use std::ops::Range;

use crate::address::Address;
use crate::isa::Isa;
use crate::powerpc::analyze::{Decoded, Kind, To, WORD, decode, length};

/// See [`crate::decode::boundaries`]. A prefix is told from its own word, and none is the last of a block of 64 bytes: decoding
/// may begin at any block, whether a function is known there or not.
pub(crate) fn boundaries(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    from: Address,
    to: Address,
) -> Option<Vec<Address>> {
    let mut starts = Vec::new();
    let mut here = at;
    while here <= to {
        if here >= from {
            starts.push(here);
        }
        if here == to {
            break;
        }
        let offset = usize::try_from(here - at).ok()?;
        here += length(isa, here, bytes.get(offset..)?)? as u64;
    }
    Some(starts)
}

/// How many instructions behind a load its store is looked for: far more than a sequence has that is sure to succeed some
/// time (Book II, "Atomic Update"); compilers without optimisation spill in between.
const LONGEST: usize = 64;

/// See [`crate::xol::exclusive_sequences`].
pub(crate) fn exclusive_sequences(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let insns = straight(isa, at, bytes);
    let mut is_inside = vec![false; insns.len()];
    for (index, (_, insn)) in insns.iter().enumerate() {
        if insn.kind == Kind::LoadReserve {
            mark(&insns, index, &mut is_inside);
        }
    }
    let mut ranges: Vec<Range<Address>> = Vec::new();
    for ((here, insn), _) in insns.iter().zip(is_inside).filter(|(_, is_inside)| *is_inside) {
        let range = here.span(insn.len as u64);
        match ranges.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => ranges.push(range),
        }
    }
    ranges
}

/// Every instruction: whatever a word is, the next begins behind it.
fn straight(isa: Isa, at: Address, bytes: &[u8]) -> Vec<(Address, Decoded)> {
    let mut insns = Vec::with_capacity(bytes.len() / WORD);
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..) {
        let here = at + offset as u64;
        let Some(insn) = decode(isa, here, rest) else { break };
        insns.push((here, insn));
        offset += insn.len;
    }
    insns
}

/// Marks what lies on a way from the load at `load` to a store.
fn mark(insns: &[(Address, Decoded)], load: usize, is_inside: &mut [bool]) {
    let mut reached: Vec<usize> = ways(insns, load, true).collect();
    let mut steps: Vec<(usize, usize)> = Vec::new();
    let mut open = reached.clone();
    while let Some(from) = open.pop() {
        for next in ways(insns, from, false).filter(|next| *next != load) {
            steps.push((from, next));
            if reached.len() < LONGEST && !reached.contains(&next) {
                reached.push(next);
                open.push(next);
            }
        }
    }
    let is_store = |index: &usize| insns[*index].1.kind == Kind::StoreConditional;
    let mut leads: Vec<usize> = reached.iter().copied().filter(is_store).collect();
    let mut open = leads.clone();
    while let Some(to) = open.pop() {
        for (from, _) in steps.iter().filter(|(_, next)| *next == to) {
            if !leads.contains(from) {
                leads.push(*from);
                open.push(*from);
            }
        }
    }
    leads.into_iter().for_each(|index| is_inside[index] = true);
}

/// Where control goes on from the instruction at `index` with the reservation as it was.
fn ways(insns: &[(Address, Decoded)], index: usize, is_first: bool) -> impl Iterator<Item = usize> {
    let kind = insns[index].1.kind;
    let (falls_through, to) = match kind {
        Kind::Branch { to: To::Address(to), condition, links: false } => (!condition.is_always(), Some(to)),
        Kind::Branch { condition, links: false, .. } => (!condition.is_always(), None),
        Kind::LoadReserve => (is_first, None),
        // The store ends the reservation; what is called or asked of the kernel is not known.
        Kind::StoreConditional
        | Kind::Branch { .. }
        | Kind::Faults
        | Kind::Breakpoint
        | Kind::Syscall
        | Kind::SyscallVectored => (false, None),
        _ => (true, None),
    };
    let next = (falls_through && index + 1 < insns.len()).then_some(index + 1);
    let target = to.and_then(|to| insns.binary_search_by_key(&to, |(at, _)| *at).ok());
    next.into_iter().chain(target)
}
