//! Eviction: islands among the program's own instructions.
//!
//! Where no padding is within reach of a short jump, a neighbour makes room (E9Patch's "neighbour eviction"; Duck, Gao,
//! Roychoudhury, PLDI 2020). A straight run of instructions near the site is displaced, by a jump and under the rules of
//! any other, with no probe on it. That jump overwrites the run up to somewhere in its last instruction. What is left of
//! this one nobody runs any more, and no instruction ever began there: it holds the island.

use std::ops::Range;

use crate::address::Address;
use crate::decode;
use crate::island::Short;
use crate::plan::{MAX_OVERWRITTEN, Mechanism, Patch};
use crate::set::Analysis;
use crate::span::{Free, Insns, Span};
use crate::x86::jump;

/// How far into a function its instructions are decoded from its start to find those near a site.
const FAR: u64 = 4096;
/// Bytes of the jump at an island.
const LEN: u64 = jump::LEN as u64;

impl Analysis<'_> {
    /// The short jump at `site` to an island among instructions that are displaced for it, and the patch that displaces
    /// them: it changes and displaces what `is_free`, and its stub has a place in `free`.
    pub(crate) fn by_eviction(
        &self,
        insns: &impl Insns,
        site: Address,
        free: Free<'_>,
        is_free: impl Fn(Range<Address>) -> bool,
    ) -> Option<(Span, Span)> {
        let short = self.short_jump(insns, site)?;
        let runs = self.runs_near(insns, &short);
        let mut pairs = runs.iter().flat_map(|run| {
            run.iter().enumerate().flat_map(|(index, start)| {
                let rest = &run[index..];
                rest.iter().take_while(|last| **last - *start < MAX_OVERWRITTEN).map(|last| (*start, *last))
            })
        });
        pairs.find_map(|(start, last)| {
            let island = self.room_in(insns, &short, start, last)?;
            let evicted = self.evicted(insns, start, island).filter(|span| span.displaces(last))?;
            let range = start..evicted.end();
            let is_apart = range.end <= site || short.end() <= start;
            let is_fit = is_apart && is_free(range) && self.has_place(&evicted, free);
            is_fit.then(|| (short.span(island), evicted))
        })
    }

    /// Where an island lies in the instruction at `last`, if those from `start` to it are displaced.
    fn room_in(&self, insns: &impl Insns, short: &Short, start: Address, last: Address) -> Option<Address> {
        // What is written lies in one page.
        (start >= short.page()).then_some(())?;
        let end = last + insns.inspect(last)?.len as u64;
        let island = (start + LEN).max(last + 1).max(short.reach().start);
        let is_in = island <= short.reach().end && island + LEN <= end && island - start <= MAX_OVERWRITTEN;
        is_in.then_some(island)
    }

    /// The patch that displaces what begins from `start` up to an `island` behind it.
    fn evicted(&self, insns: &impl Insns, start: Address, island: Address) -> Option<Span> {
        // Landing pads stay where they are.
        insns.inspect(start).filter(|insn| !insn.is_landing_pad && !insn.is_padding)?;
        let len = usize::try_from(island - start).ok()?;
        self.check_interior(start, len + jump::LEN).ok()?;
        self.span(insns, start, Mechanism::Jump, (len, len)).ok()
    }

    /// The starts of instructions within reach, function by function.
    fn runs_near(&self, insns: &impl Insns, short: &Short) -> Vec<Vec<Address>> {
        let reach = short.reach();
        let from = Address(reach.start.0.saturating_sub(MAX_OVERWRITTEN));
        let mut runs = Vec::new();
        for function in self.functions_near(short.site) {
            let Range { start, end } = function.range;
            if function.first_bad.is_some() || end <= from || start > reach.end {
                continue;
            }
            let holds_site = (start..end).contains(&short.site);
            // An instruction ends where the site's does.
            let known = if from.0.saturating_sub(start.0) <= FAR { start } else { short.end() };
            if known != start && !holds_site || known >= end {
                continue;
            }
            let last = reach.end.min(Address(end.0 - 1));
            let bytes = self.bytes_from(known);
            let starts = bytes.and_then(|bytes| decode::boundaries(self.isa, known, bytes, from, last));
            let is_its_own = |at: &Address| insns.function_at(*at).is_some_and(|inner| inner == function);
            runs.extend(starts.map(|starts| starts.into_iter().filter(is_its_own).collect()));
        }
        runs
    }

    /// The short jump at `site` to an island that `is_free`, in what is left of the last instruction that one of `patches`
    /// displaces (sorted by start).
    pub(crate) fn by_tail(
        &self,
        insns: &impl Insns,
        site: Address,
        patches: &[Patch],
        is_free: impl Fn(Range<Address>) -> bool,
    ) -> Option<Span> {
        let short = self.short_jump(insns, site)?;
        let near = patches.partition_point(|patch| patch.end() <= short.reach().start);
        let patches = patches[near..].iter().take_while(|patch| patch.start <= short.reach().end);
        let mut islands = patches.filter(|patch| patch.mechanism == Mechanism::Jump).filter_map(|patch| {
            let written = patch.start + patch.overwritten.len() as u64;
            let at = written.max(short.reach().start);
            let is_in = patch.start >= short.page() && at <= short.reach().end && at + LEN <= patch.resume();
            let len = usize::try_from(at - patch.start).ok()? + jump::LEN;
            (is_in && self.check_interior(patch.start, len).is_ok()).then_some(at)
        });
        islands.find(|at| is_free(at.span(LEN))).map(|at| short.span(at))
    }
}
