//! What lies between a load-exclusive (load-reserved, load and reserve) and its store, and where instructions begin: the same
//! search for every ISA, which only says of each instruction what it is to it.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::address::Address;

/// How many instructions behind a load its store is looked for, on each way. The kernel does not put a kprobe up to 32 behind
/// one (`MAX_ATOMIC_CONTEXT_SIZE`, arch/arm64/kernel/probes/decode-insn.c), a constrained loop of RISC-V has 16; compilers
/// without optimisation spill in between.
const LONGEST: usize = 64;
/// How many are looked at behind one load, on all ways.
const MOST: usize = 512;

/// What an instruction is to the search.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Takes a reservation.
    Load,
    /// Ends it, if it is done.
    Store,
    /// None of both.
    Other,
}

/// An instruction, or what is none.
pub(crate) struct Step {
    pub(crate) at: Address,
    pub(crate) len: usize,
    pub(crate) role: Role,
    /// Whether control may go on behind it with the reservation as it was before. (Behind a load it does with the load's own.)
    pub(crate) falls_through: bool,
    /// Where else it may go on so.
    pub(crate) to: Option<Address>,
}

/// The steps of `bytes`, which begin at `at`, as far as `step` gives them.
pub(crate) fn steps(
    at: Address,
    bytes: &[u8],
    mut step: impl FnMut(Address, &[u8]) -> Option<Step>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut offset = 0;
    while let Some(next) = bytes.get(offset..).and_then(|rest| step(at + offset as u64, rest)) {
        offset += next.len;
        steps.push(next);
    }
    steps
}

/// What lies on a way from a load to a store: behind the load, the store included.
pub(crate) fn sequences(steps: &[Step]) -> Vec<Range<Address>> {
    let loads = (0..steps.len()).filter(|index| steps[*index].role == Role::Load);
    let inside: BTreeSet<usize> = loads.flat_map(|load| behind(steps, load)).collect();
    let range = |index: usize| steps[index].at.span(steps[index].len as u64);
    merged(inside.into_iter().map(range).collect())
}

/// In order, those that touch as one.
pub(crate) fn merged(mut ranges: Vec<Range<Address>>) -> Vec<Range<Address>> {
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

/// All ways from the load are followed side by side, so that a long way out hides no store.
fn behind(steps: &[Step], load: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut front = vec![load];
    for _ in 0..=LONGEST {
        let next: Vec<usize> = front.iter().flat_map(|index| ways(steps, *index, load)).collect();
        front = next.into_iter().filter(|index| reached.len() < MOST && reached.insert(*index)).collect();
    }
    let mut leads: BTreeSet<usize> =
        reached.iter().copied().filter(|index| steps[*index].role == Role::Store).collect();
    loop {
        let joins = |index: &usize| ways(steps, *index, load).any(|next| leads.contains(&next));
        let more: Vec<usize> = reached.difference(&leads).copied().filter(joins).collect();
        if more.is_empty() {
            return leads;
        }
        leads.extend(more);
    }
}

/// Where control goes on from a step with the reservation of `load`, which is not there again: it begins anew.
fn ways(steps: &[Step], index: usize, load: usize) -> impl Iterator<Item = usize> {
    let step = &steps[index];
    let next = ((step.falls_through || index == load) && index + 1 < steps.len()).then_some(index + 1);
    let target = step.to.and_then(|to| steps.binary_search_by_key(&to, |step| step.at).ok());
    next.into_iter().chain(target).filter(move |index| *index != load)
}

/// The starts of the instructions from `from` on up to the last that begins at or before `to`, by lengths alone, the first one
/// beginning at `at`; `None` where there is no length.
pub(crate) fn boundaries(
    at: Address,
    bytes: &[u8],
    from: Address,
    to: Address,
    length: impl Fn(Address, &[u8]) -> Option<usize>,
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
        here += length(here, bytes.get(offset..)?)? as u64;
    }
    Some(starts)
}
