//! Changes that fail: the text tells what of them was made, and what was not is as if it had never been planned.

use std::collections::BTreeSet;
use std::ops::Range;

use insn::Address;
use symbols::maps::Mapping;

use super::change::{Backing, Change, Patched};
use super::state::Engine;
use crate::area::Entry;
use crate::error::TargetError;
use crate::seam::Target;

impl<T: Target> Engine<T> {
    /// A change failed when it had begun: the books say what the text shows, and whoever was moved for a patch that is not in
    /// the text is moved back for those that are. The world is still stopped.
    pub(super) fn take_back(&mut self, mut change: Change) -> Result<(), TargetError> {
        let removed = change.remove.iter().filter_map(|start| self.patches.get(start));
        let spans: Vec<Entry> = removed.chain(&change.apply).map(|patched| patched.entry.clone()).collect();
        self.keep_what_was_done(&mut change);
        self.note_change(change);
        let near: BTreeSet<Address> =
            spans.iter().flat_map(|span| self.overlapping(span)).map(|entry| entry.start).collect();
        let apply = near.iter().filter_map(|start| self.patches.get(start)).cloned().collect();
        let back = self.empty_spans(&Change { apply, ..Change::default() });
        self.close_moved();
        back
    }

    /// After a failure the text tells which parts of a change were made.
    fn keep_what_was_done(&mut self, change: &mut Change) {
        // Without the mappings the bytes have to do.
        let mappings = self.target.mappings().ok();
        let is_mapped = |patched: &Patched| {
            let at = |mappings: &Vec<Mapping>| Backing::at(mappings, patched.entry.start);
            mappings.as_ref().is_none_or(|mappings| at(mappings) == Some(patched.backing))
        };
        change.apply.retain_mut(|patched| {
            let mut known = self.overlapping(&patched.entry);
            let before = overlaid(&patched.entry, &known);
            known.push(&patched.entry);
            let now = self.left_of(&patched.entry, &known).filter(|now| now.patched != before);
            now.filter(|_| is_mapped(patched)).map(|now| patched.entry = now).is_some()
        });
        let gone: Vec<Address> = std::mem::take(&mut change.remove);
        for start in gone {
            let old = self.patches.get(&start).filter(|old| is_mapped(old));
            let left = old.and_then(|old| self.left_of(&old.entry, &[&old.entry]));
            match (left, self.patches.get_mut(&start)) {
                (Some(left), Some(old)) => old.entry = left,
                _ => change.remove.push(start),
            }
        }
    }

    /// Patches that share a byte with `entry`.
    fn overlapping(&self, entry: &Entry) -> Vec<&Entry> {
        let end = entry.start + entry.patched.len() as u64;
        let from = Address(entry.start.0.saturating_sub(Entry::MAX_LEN));
        let near = self.patches.range(from..end).map(|(_, patched)| &patched.entry);
        near.filter(|other| entry.start < other.start + other.patched.len() as u64).collect()
    }

    /// What is in the text where a patch belongs, if each byte is the original's or one of `ours` and not all are the
    /// original's: also a patch half written, by a tracer killed between two pages.
    pub(super) fn left_of(&self, entry: &Entry, ours: &[&Entry]) -> Option<Entry> {
        let mut live = vec![0; entry.patched.len()];
        self.target.read(entry.start, &mut live).ok()?;
        let is_known = |index: usize, byte: u8| {
            let at = entry.start + index as u64;
            let of = |other: &&Entry| {
                let offset = usize::try_from(at.0.checked_sub(other.start.0)?).ok()?;
                Some([*other.patched.get(offset)?, *other.original.get(offset)?].contains(&byte))
            };
            ours.iter().filter_map(of).any(|is_one| is_one)
        };
        let is_whole = live.iter().enumerate().all(|(index, byte)| is_known(index, *byte));
        (is_whole && live != entry.original).then(|| Entry { patched: live, ..entry.clone() })
    }

    /// What a failed change wrote goes from the books, unless a patch leads there: who planned it gives its room to others.
    pub(super) fn forget_unused(&mut self, change: &Change) {
        let led_to = self.led_to();
        let is_unused = |at: &Address| !led_to.contains(at);
        change.stubs.iter().map(|stub| stub.at).filter(is_unused).for_each(|at| {
            self.stubs.remove(&at);
        });
        if change.stubs.iter().all(|stub| is_unused(&stub.at)) {
            self.routines.retain(|one| change.routines.iter().all(|new| new.at != one.at));
        }
    }

    /// The stubs to which patches lead.
    fn led_to(&self) -> BTreeSet<Address> {
        self.patches.values().map(|patched| patched.entry.stub).collect()
    }

    /// Refuses code where other code of ours is: a thread may be in that, and the books could not tell one from the other.
    /// In a mapping that is still to be made there is none.
    pub(super) fn refuse_code_over_ours(&self, change: &Change) -> Result<(), TargetError> {
        let stubs = change.stubs.iter().map(|stub| stub.at.span(stub.bytes.len() as u64));
        let routines = change.routines.iter().map(|one| one.at.span(one.bytes.len() as u64));
        let is_to_come = |at: Address| change.map.iter().any(|(start, len)| start.span(*len).contains(&at));
        let taken = stubs.chain(routines).find(|code| !is_to_come(code.start) && self.has_code_in(code));
        taken.map_or(Ok(()), |code| Err(TargetError::Taken { address: code.start }))
    }

    fn has_code_in(&self, range: &Range<Address>) -> bool {
        let before = self.stubs.range(..range.end).next_back();
        before.is_some_and(|(start, stub)| range.start < *start + stub.bytes.len() as u64)
            || self
                .routines
                .iter()
                .any(|one| one.at < range.end && range.start < one.at + one.bytes.len() as u64)
    }

    /// Where something could be mapped nothing of ours was any more: the program had unmapped it.
    pub(super) fn forget_code_in(&mut self, places: &[(Address, u64)]) {
        let led_to = self.led_to();
        for range in places.iter().map(|(at, len)| at.span(*len)) {
            let gone = self.stubs.range(range.clone()).map(|(at, _)| *at).filter(|at| !led_to.contains(at));
            for at in gone.collect::<Vec<_>>() {
                self.stubs.remove(&at);
            }
            self.routines.retain(|one| !range.contains(&one.at));
        }
    }
}

/// The bytes that `entry` changes, with these patches in the text.
fn overlaid(entry: &Entry, patches: &[&Entry]) -> Vec<u8> {
    let mut bytes = entry.original.clone();
    for patch in patches {
        for (index, byte) in patch.patched.iter().enumerate() {
            let offset = (patch.start + index as u64).0.checked_sub(entry.start.0);
            let slot = offset.and_then(|offset| bytes.get_mut(usize::try_from(offset).ok()?));
            slot.into_iter().for_each(|slot| *slot = *byte);
        }
    }
    bytes
}
