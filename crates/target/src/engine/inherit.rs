//! Mappings that an earlier xol had to leave: nothing in the text leads to them any more, and they go with ours.

use std::collections::BTreeMap;

use insn::Address;
use symbols::maps::Mapping;

use super::leave::{STACK_FAR, does_stack_lead};
use super::state::Engine;
use crate::area::{self, Description};
use crate::error::TargetError;
use crate::seam::{Target, Tid};

/// A mapping that was there before we came.
#[derive(Clone, Debug)]
pub(super) struct Inherited {
    start: Address,
    len: u64,
    /// What was mapped there when we came: the program may have something of its own there later.
    mapping: Mapping,
}

impl Inherited {
    fn contains(&self, at: Address) -> bool {
        self.start <= at && at < self.start + self.len
    }

    fn is_still_there(&self, mappings: &[Mapping]) -> bool {
        let was = &self.mapping;
        mappings.iter().any(|now| {
            now.range.start <= self.start
                && self.start + self.len <= now.range.end
                && (now.inode, &now.path, now.executable, now.writable, now.shared)
                    == (was.inode, &was.path, was.executable, was.writable, was.shared)
        })
    }
}

/// The mappings of the areas described in `found`, and those that have our name.
pub(super) fn mappings_of(mappings: &[Mapping], found: &[(Address, Description)]) -> BTreeMap<Address, u64> {
    let named = mappings.iter().filter(|mapping| area::is_ours(mapping));
    let named = named.map(|mapping| (mapping.range.start, mapping.range.end - mapping.range.start));
    let unnamed = found.iter().flat_map(|(at, description)| area::unnamed(mappings, *at, description));
    named.chain(unnamed).collect()
}

impl<T: Target> Engine<T> {
    /// Notes what an earlier xol left, before anything of ours is mapped. An area to which the text still leads is not
    /// touched: that is for [`Self::adopt_leftovers`].
    ///
    /// # Errors
    /// What prevents reading the mappings.
    pub fn inherit(&mut self) -> Result<(), TargetError> {
        let mappings = self.target.mappings()?;
        let found = self.leftovers()?;
        if found.iter().any(|(_, description)| !description.entries.is_empty()) {
            return Ok(());
        }
        let inherited = mappings_of(&mappings, &found).into_iter().filter_map(|(start, len)| {
            let mapping = mappings.iter().find(|mapping| mapping.range.contains(&start))?.clone();
            Some(Inherited { start, len, mapping })
        });
        self.inherited = inherited.collect();
        Ok(())
    }

    /// Unmaps it, unless something still leads there. The world is stopped.
    pub(super) fn unmap_inherited(&mut self) -> Result<(), TargetError> {
        if self.inherited.is_empty() {
            return Ok(());
        }
        let mappings = self.target.mappings()?;
        self.inherited.retain(|one| one.is_still_there(&mappings));
        let tasks = self.target.tasks();
        if tasks.into_iter().any(|tid| self.may_reach_inherited(tid, &mappings)) {
            return Ok(());
        }
        let Some(caller) = self.memory_caller() else { return Ok(()) };
        let calls: Vec<_> = self.inherited.iter().map(|one| self.munmap(one.start, one.len)).collect();
        let mut answers = self.target.call(caller, &calls)?.into_iter();
        self.inherited.retain(|_| answers.next() != Some(0));
        Ok(())
    }

    pub(super) fn is_inherited(&self, at: Address) -> bool {
        self.inherited.iter().any(|one| one.contains(at))
    }

    /// Of an earlier session it is not known how deep a handler may have gone since its frame was moved.
    fn may_reach_inherited(&self, tid: Tid, mappings: &[Mapping]) -> bool {
        let leads_there =
            |at: Address| self.inherited.iter().any(|one| one.mapping.executable && one.contains(at));
        if !self.target.is_stopped(tid) {
            return self.target.state(tid) != 'Z' && self.target.blocked_at(tid).is_none_or(leads_there);
        }
        self.target.registers(tid).is_ok_and(|registers| leads_there(registers.pc()))
            || does_stack_lead(&self.target, tid, mappings, STACK_FAR, leads_there)
    }
}
