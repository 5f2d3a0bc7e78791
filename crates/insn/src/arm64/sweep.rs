//! Sweeps over stretches of code: where instructions begin, and what lies between a load-exclusive and its store.

use std::collections::BTreeSet;
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
    let code = Code { at, words };
    let mut inside = BTreeSet::new();
    for index in 0..words.len() {
        match code.kind(index) {
            Some(Kind::LoadExclusive) => code.behind_load(index, &mut inside),
            Some(Kind::SignsNext) if index + 1 < words.len() => _ = inside.insert(index + 1),
            _ => {}
        }
    }
    let mut ranges: Vec<Range<Address>> = Vec::new();
    for index in inside {
        let range = code.address(index)..code.address(index + 1);
        match ranges.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => ranges.push(range),
        }
    }
    ranges
}

/// A stretch of code, its instructions by their number.
struct Code<'a> {
    at: Address,
    words: &'a [[u8; LEN]],
}

impl Code<'_> {
    fn address(&self, index: usize) -> Address {
        Address(self.at.0.wrapping_add((index * LEN) as u64))
    }

    fn kind(&self, index: usize) -> Option<Kind> {
        self.words.get(index).and_then(|word| decode(self.address(index), word))
    }

    /// Adds what lies on a way from the load at `load` to a store-exclusive.
    fn behind_load(&self, load: usize, inside: &mut BTreeSet<usize>) {
        let mut window = Vec::new();
        let mut steps: Vec<(usize, usize)> = Vec::new();
        let mut reached = vec![load];
        while let Some(from) = reached.pop() {
            for next in self.ways(from, from == load) {
                steps.push((from, next));
                if window.len() < LONGEST && next != load && !window.contains(&next) {
                    window.push(next);
                    reached.push(next);
                }
            }
        }
        window.retain(|index| self.kind(*index) == Some(Kind::StoreExclusive));
        let mut leads = window;
        let mut found = leads.clone();
        while let Some(to) = leads.pop() {
            for (from, _) in steps.iter().filter(|(_, next)| *next == to) {
                if *from != load && !found.contains(from) {
                    found.push(*from);
                    leads.push(*from);
                }
            }
        }
        inside.extend(found);
    }

    /// Where control goes on from the instruction at `index` with the monitor as it was.
    fn ways(&self, index: usize, is_first: bool) -> impl Iterator<Item = usize> {
        let (falls_through, to) = match self.kind(index) {
            Some(Kind::Branch { condition: Condition::Always, to, links: false }) => (false, Some(to)),
            Some(Kind::Branch { condition, to, .. }) if condition != Condition::Always => (true, Some(to)),
            Some(Kind::LoadExclusive) if is_first => (true, None),
            // The store ends the access, another load begins one of its own; what is called, returned to or asked of the kernel
            // is not known.
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
        let next = falls_through.then_some(index + 1);
        let target = to.and_then(|to| usize::try_from(to.0.checked_sub(self.at.0)? / LEN as u64).ok());
        let count = self.words.len();
        next.into_iter().chain(target).filter(move |index| *index < count)
    }
}
