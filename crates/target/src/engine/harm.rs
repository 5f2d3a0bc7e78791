//! What the program does to memory of ours. It may unmap, protect, move or empty it like any other: that harms nobody but
//! itself, and it is said.

use insn::Address;
use program::layout::Layout;
use program::stub::Stub;
use symbols::maps::Mapping;

use super::change::PageCache;
use super::state::Engine;
use crate::area;
use crate::seam::Target;
use crate::state::State;

impl<T: Target> Engine<T> {
    /// Says, once, that memory of ours is not as we made it, and what that led to.
    pub(super) fn tell_of_harm(&mut self, led_to: &str) {
        if std::mem::replace(&mut self.told_of_harm, true) {
            return;
        }
        let found = self.harm().unwrap_or_else(|| "nothing of it is seen now".to_owned());
        self.warn(format!("the program did something to xol's memory in it ({found}): {led_to}"));
    }

    /// The same at the end of all, where something is found.
    pub(super) fn look_for_harm(&mut self) {
        // Of what another xol left it is not known how it was.
        if !self.stubs.is_empty() && self.harm().is_some() {
            self.tell_of_harm(
                "what it had counted there is counted, and the text restored where it is still mapped",
            );
        }
    }

    /// The first thing found that is not as we made it.
    fn harm(&self) -> Option<String> {
        let mappings = self.target.mappings().ok()?;
        let places = self.mapped.iter().map(|(at, len)| (*at, *len));
        let mut changed = places.filter_map(|(at, len)| {
            let what = self.change_of(&mappings, at, len)?;
            Some(format!("{at} {what}"))
        });
        changed.next().or_else(|| self.emptied())
    }

    /// What became of one of our mappings.
    fn change_of(&self, mappings: &[Mapping], at: Address, len: u64) -> Option<&'static str> {
        let is_state = self.state_at.is_some_and(|(state, _)| state == at);
        let mut covered = 0;
        for mapping in within(mappings, at, len) {
            if !is_named_or(mapping, is_state) {
                return Some("is another mapping");
            }
            if !mapping.readable || mapping.executable == is_state || mapping.writable != is_state {
                return Some("is protected otherwise");
            }
            covered += Address(mapping.range.end.0.min(at.0 + len)) - mapping.range.start.max(at);
        }
        (covered < len).then_some("is not mapped any more")
    }

    /// Stubs that are not there though their mapping is (`MADV_DONTNEED`), or counters that are gone likewise.
    fn emptied(&self) -> Option<String> {
        let mut page = PageCache::default();
        let mut is_there = |at: Address, bytes: &[u8]| page.holds(&self.target, at, bytes).unwrap_or(false);
        let mut quiet = self.stubs.iter().filter(|(at, _)| !self.is_drained(**at));
        let mut is_whole =
            |at, stub: &Stub| [true, false].iter().any(|alone| is_there(at, &stub.code(*alone)));
        if let Some((at, _)) = quiet.find(|(at, stub)| !is_whole(**at, stub)) {
            return Some(format!("the code at {at} was overwritten"));
        }
        let (layout, shared) = (self.layout?, self.shared.as_ref()?);
        (Layout::recover(shared) != Some(layout)).then(|| "the counters were overwritten".to_owned())
    }

    /// Drops places where nothing of ours is left: what is there now is the program's.
    pub(super) fn forget_what_is_not_ours(&mut self) {
        let Ok(mappings) = self.target.mappings() else { return };
        let mut mapped = std::mem::take(&mut self.mapped);
        mapped.retain(|at, len| {
            within(&mappings, *at, *len).next().is_some() && self.is_still_our_mapping(&mappings, *at, *len)
        });
        self.mapped = mapped;
        self.description_at = self.description_at.filter(|(at, _)| self.mapped.contains_key(at));
        if self.state_at.is_some_and(|(at, _)| !self.mapped.contains_key(&at)) {
            // Of a file that we have mapped, too, the counts are ours.
            self.shared.take_if(|shared| matches!(shared, State::Remote(_)));
        }
    }

    /// Whether what is mapped in a place of ours may be unmapped: the program may have something of its own there now.
    pub(super) fn is_still_our_mapping(&self, mappings: &[Mapping], at: Address, len: u64) -> bool {
        let is_state = self.state_at.is_some_and(|(state, _)| state == at);
        within(mappings, at, len).all(|mapping| is_named_or(mapping, is_state))
    }

    /// Mappings of ours that the program moved to places where we made none.
    pub(super) fn moved_away(&self) -> usize {
        let mappings = self.target.mappings().ok().filter(|_| self.told_of_harm).unwrap_or_default();
        let is_known = |mapping: &&Mapping| {
            self.mapped.iter().any(|(at, len)| mapping.range.start < *at + *len && *at < mapping.range.end)
        };
        let named = mappings.iter().filter(|mapping| area::is_ours(mapping));
        named.filter(|mapping| !is_known(mapping) && !self.is_inherited(mapping.range.start)).count()
    }
}

/// What is mapped in a range.
fn within(mappings: &[Mapping], at: Address, len: u64) -> impl Iterator<Item = &Mapping> {
    mappings.iter().filter(move |mapping| mapping.range.start < at + len && at < mapping.range.end)
}

/// Whether a mapping is ours by its name, or has none and is like those that we make without one.
fn is_named_or(mapping: &Mapping, is_state: bool) -> bool {
    let is_like_ours = mapping.path.is_none()
        && !mapping.shared
        && mapping.executable != is_state
        && mapping.writable == is_state;
    area::is_ours(mapping) || is_like_ours
}
