//! Sweeps over stretches of code: where instructions begin, and what lies between a load-exclusive and its store.

use std::ops::Range;

use crate::address::Address;
use crate::arm::analyze::{ALWAYS, Condition, Decoded, Kind, Multiple, PC, decode};
use crate::isa::Isa;

/// See [`crate::decode::boundaries`]. In A32 every fourth byte, code or data.
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
        here += decode(isa, here, bytes.get(offset..)?)?.len as u64;
    }
    Some(starts)
}

/// How many instructions behind a load its store is looked for. Compilers without optimisation spill in between.
const LONGEST: usize = 64;

/// An instruction, and whether an `it` in front of it makes it conditional.
struct Step {
    at: Address,
    insn: Decoded,
    is_conditional: bool,
}

/// See [`crate::xol::exclusive_sequences`].
pub(crate) fn exclusive_sequences(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let steps = steps(isa, at, bytes);
    let mut is_inside = vec![false; steps.len()];
    for load in (0..steps.len()).filter(|index| steps[*index].insn.kind == Kind::LoadExclusive) {
        mark(&steps, load, &mut is_inside);
    }
    let mut ranges: Vec<Range<Address>> = Vec::new();
    for (step, _) in steps.iter().zip(is_inside).filter(|(_, is_inside)| *is_inside) {
        let range = step.at.span(step.insn.len as u64);
        match ranges.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => ranges.push(range),
        }
    }
    ranges
}

fn steps(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut offset, mut conditional) = (0, 0);
    while let Some(insn) = bytes.get(offset..).and_then(|rest| decode(isa, at + offset as u64, rest)) {
        let is_conditional = insn.condition != ALWAYS || conditional > 0;
        conditional = match insn.kind {
            // The lowest bit of the mask ends the block: it is of up to four instructions.
            Kind::If(state) => 4 - (state & 0xf).trailing_zeros(),
            _ => conditional.saturating_sub(1),
        };
        steps.push(Step { at: at + offset as u64, insn, is_conditional });
        offset += insn.len;
    }
    steps
}

/// Marks what lies on a way from the load to a store-exclusive.
fn mark(steps: &[Step], load: usize, is_inside: &mut [bool]) {
    let mut window = Vec::new();
    let mut edges: Vec<(usize, usize)> = Vec::new();
    let mut reached = vec![load];
    while let Some(from) = reached.pop() {
        for next in ways(steps, from, from == load) {
            edges.push((from, next));
            if window.len() < LONGEST && next != load && !window.contains(&next) {
                window.push(next);
                reached.push(next);
            }
        }
    }
    let is_store = |index: &usize| steps[*index].insn.kind == Kind::StoreExclusive;
    let mut leads: Vec<usize> = window.iter().copied().filter(is_store).collect();
    let mut found = leads.clone();
    while let Some(to) = leads.pop() {
        for (from, _) in edges.iter().filter(|(_, next)| *next == to) {
            if *from != load && !found.contains(from) {
                found.push(*from);
                leads.push(*from);
            }
        }
    }
    found.into_iter().for_each(|index| is_inside[index] = true);
}

/// Where control goes on from an instruction with the monitor as it was. What is done only on a condition may not be done.
fn ways(steps: &[Step], index: usize, is_first: bool) -> impl Iterator<Item = usize> {
    let step = &steps[index];
    let (falls_through, to) = match step.insn.kind {
        Kind::Branch { condition, to, links: false, .. } => (condition != Condition::Flags(ALWAYS), Some(to)),
        Kind::LoadExclusive if is_first => (true, None),
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
    let next = ((falls_through || step.is_conditional) && index + 1 < steps.len()).then_some(index + 1);
    let target = to.and_then(|to| steps.binary_search_by_key(&to, |step| step.at).ok());
    next.into_iter().chain(target)
}
