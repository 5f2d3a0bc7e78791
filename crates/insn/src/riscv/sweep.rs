//! Sweeps over stretches of code: where instructions begin, and what lies between a load-reserved and its store-conditional.

use std::ops::Range;

use crate::address::Address;
use crate::isa::Isa;
use crate::riscv::analyze::{Decoded, Kind, Register, decode, length};

/// See [`crate::decode::boundaries`].
pub(crate) fn boundaries(at: Address, bytes: &[u8], from: Address, to: Address) -> Option<Vec<Address>> {
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
        here += length(bytes.get(offset..)?)? as u64;
    }
    Some(starts)
}

/// How many instructions, one behind the other, a loop has that is sure to end some time (8.3: constrained LR/SC loops).
/// Longer ones succeed on common hardware too, so twice as many are looked at behind the load.
const LONGEST: usize = 32;

/// See [`crate::xol::exclusive_sequences`].
pub(crate) fn exclusive_sequences(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| rest.len() >= 2) {
        let insn = decode(isa, at + offset as u64, rest);
        // What is longer than an instruction can be is data; code may go on behind it.
        let len = insn.map_or(2, |insn| insn.len);
        if insn.is_some_and(|insn| insn.kind == Kind::LoadReserved) {
            found.extend(behind_load(isa, at + (offset + len) as u64, rest.get(len..).unwrap_or_default()));
        }
        offset += len;
    }
    merged(found)
}

/// In order, and without those that begin where others end or before.
fn merged(mut ranges: Vec<Range<Address>>) -> Vec<Range<Address>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<Address>> = Vec::new();
    for range in ranges {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

/// What lies on a way from `at`, which is behind a load-reserved, to a store-conditional.
fn behind_load(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let insns = straight(isa, at, bytes);
    let ways: Vec<Vec<usize>> = (0..insns.len()).map(|index| ways(&insns, index).collect()).collect();
    let mut is_reached = vec![false; insns.len()];
    let mut open: Vec<usize> = if insns.is_empty() { Vec::new() } else { vec![0] };
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut is_reached[index], true) {
            open.extend(&ways[index]);
        }
    }
    let is_store = |index: usize| insns[index].1.kind == Kind::StoreConditional;
    let mut leads = vec![false; insns.len()];
    let joins = |leads: &[bool], index: usize| {
        is_reached[index] && !leads[index] && (is_store(index) || ways[index].iter().any(|next| leads[*next]))
    };
    while let Some(index) = (0..insns.len()).rev().find(|index| joins(&leads, *index)) {
        leads[index] = true;
    }
    let on_the_way = insns.iter().zip(leads).filter(|(_, leads)| *leads);
    on_the_way.map(|((here, insn), _)| here.span(insn.len as u64)).collect()
}

/// The instructions from `at` on, as many as are looked at.
fn straight(isa: Isa, at: Address, bytes: &[u8]) -> Vec<(Address, Decoded)> {
    let mut insns = Vec::new();
    let mut offset = 0;
    while insns.len() < LONGEST {
        let here = at + offset as u64;
        let Some(insn) = bytes.get(offset..).and_then(|rest| decode(isa, here, rest)) else { break };
        insns.push((here, insn));
        offset += insn.len;
    }
    insns
}

/// Indices of the instructions to which control goes on from the one at `index` with the reservation kept.
fn ways(insns: &[(Address, Decoded)], index: usize) -> impl Iterator<Item = usize> {
    let (falls_through, to) = match insns[index].1.kind {
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
    let next = (falls_through && index + 1 < insns.len()).then_some(index + 1);
    // What lies in front of the load is none of them: the loop begins anew there.
    let target = to.and_then(|to| insns.iter().position(|(at, _)| *at == to));
    next.into_iter().chain(target)
}
