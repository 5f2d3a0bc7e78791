//! Sweeps over stretches of code: where instructions begin, and what lies between a load-exclusive and its store.

use std::ops::Range;

use crate::address::Address;
use crate::arm64::analyze::{Condition, Kind, LEN, decode};

/// See [`crate::decode::boundaries`]: every fourth byte, code or data.
pub(crate) fn boundaries(at: Address, from: Address, to: Address) -> Option<Vec<Address>> {
    let first = from.0.checked_next_multiple_of(LEN as u64)?;
    at.0.is_multiple_of(LEN as u64).then(|| (first..=to.0).step_by(LEN).map(Address).collect())
}

/// How many instructions behind a load its store is looked for. The kernel does not put a kprobe up to 32 behind one
/// (`MAX_ATOMIC_CONTEXT_SIZE`, arch/arm64/kernel/probes/decode-insn.c); compilers without optimisation spill in between.
const LONGEST: usize = 64;

/// See [`crate::xol::exclusive_sequences`]. The instruction behind a `pacm` is among them: if it signs, then with its own
/// address, which its slot does not have.
pub(crate) fn exclusive_sequences(at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let (words, _) = bytes.as_chunks::<LEN>();
    let address = |index: usize| Address(at.0.wrapping_add((index * LEN) as u64));
    let kinds: Vec<_> = words.iter().enumerate().map(|(index, word)| decode(address(index), word)).collect();
    let mut is_inside = vec![false; kinds.len()];
    for (index, kind) in kinds.iter().enumerate() {
        match kind {
            Some(Kind::LoadExclusive) => mark(at, &kinds, index, &mut is_inside),
            Some(Kind::SignsNext) => {
                is_inside.iter_mut().skip(index + 1).take(1).for_each(|next| *next = true)
            }
            _ => {}
        }
    }
    let mut ranges: Vec<Range<Address>> = Vec::new();
    for index in (0..kinds.len()).filter(|index| is_inside[*index]) {
        let range = address(index)..address(index + 1);
        match ranges.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => ranges.push(range),
        }
    }
    ranges
}

/// Marks what lies on a way from the load at `load` to a store-exclusive.
fn mark(at: Address, kinds: &[Option<Kind>], load: usize, is_inside: &mut [bool]) {
    let mut window = Vec::new();
    let mut steps: Vec<(usize, usize)> = Vec::new();
    let mut reached = vec![load];
    while let Some(from) = reached.pop() {
        for next in ways(at, kinds, from, from == load) {
            steps.push((from, next));
            if window.len() < LONGEST && next != load && !window.contains(&next) {
                window.push(next);
                reached.push(next);
            }
        }
    }
    let is_store = |index: &usize| kinds[*index] == Some(Kind::StoreExclusive);
    let mut leads: Vec<usize> = window.iter().copied().filter(is_store).collect();
    let mut found = leads.clone();
    while let Some(to) = leads.pop() {
        for (from, _) in steps.iter().filter(|(_, next)| *next == to) {
            if *from != load && !found.contains(from) {
                found.push(*from);
                leads.push(*from);
            }
        }
    }
    found.into_iter().for_each(|index| is_inside[index] = true);
}

/// Where control goes on from the instruction at `index` with the monitor as it was.
fn ways(at: Address, kinds: &[Option<Kind>], index: usize, is_first: bool) -> impl Iterator<Item = usize> {
    let (falls_through, to) = match kinds[index] {
        Some(Kind::Branch { condition: Condition::Always, to, links: false }) => (false, Some(to)),
        Some(Kind::Branch { condition, to, .. }) if condition != Condition::Always => (true, Some(to)),
        Some(Kind::LoadExclusive) if is_first => (true, None),
        // The store ends the access, another load begins one of its own; what is called, returned to or asked of the kernel is
        // not known.
        Some(
            Kind::LoadExclusive
            | Kind::StoreExclusive
            | Kind::Branch { .. }
            | Kind::BranchRegister { .. }
            | Kind::Authenticated { .. }
            | Kind::Faults
            | Kind::Syscall,
        )
        | None => (false, None),
        Some(_) => (true, None),
    };
    let next = (falls_through && index + 1 < kinds.len()).then_some(index + 1);
    let target = to.and_then(|to| usize::try_from(to.0.checked_sub(at.0)? / LEN as u64).ok());
    next.into_iter().chain(target.filter(|target| *target < kinds.len()))
}
