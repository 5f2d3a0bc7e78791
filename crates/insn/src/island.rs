//! Islands: jumps in the padding between functions.
//!
//! A site of two bytes has room for a short jump. It leads to an island, five bytes of padding within its reach, and the
//! jump there leads on to the stub, wherever that is.

use std::ops::Range;

use crate::address::Address;
use crate::decode::{self, Flow};
use crate::plan::Mechanism;
use crate::set::Analysis;
use crate::span::{Insns, Run, Span};
use crate::sweep::Function;
use crate::x86::jump;

/// Site and island share a page: one write makes both.
const PAGE: u64 = 4096;
/// How many functions around a site are asked for the padding behind them: more than there is reach for.
const NEIGHBOURS: usize = 64;

impl Analysis<'_> {
    /// The short jump at `site` to an island that `is_free`.
    pub(crate) fn by_island(
        &self,
        insns: &impl Insns,
        site: Address,
        is_free: impl Fn(Range<Address>) -> bool,
    ) -> Option<Span> {
        let insn = insns.displaceable(site).ok().filter(|insn| insn.len >= jump::SHORT_LEN)?;
        let changed = site..site + jump::SHORT_LEN as u64;
        self.check_interior(site, jump::SHORT_LEN).ok()?;
        self.check_refused(site..site + insn.len as u64).ok()?;
        let end = changed.end;
        let page = Address(site.0 / PAGE * PAGE);
        (changed.end <= page + PAGE).then_some(())?;
        let least = Address(end.0.saturating_sub(128)).max(page);
        let most = (end + 127).min(page + (PAGE - jump::LEN as u64));
        let padding = self.padding_near(site, least..most);
        let island = padding.flat_map(|gap| {
            let places = gap.start.max(least).0..=most.0.min(gap.end.0.saturating_sub(jump::LEN as u64));
            places.map(Address).find(|at| is_free(at.span(jump::LEN as u64)) && self.is_idle(gap.start, *at))
        });
        let island = island.into_iter().next()?;
        Some(Span::by_island(site, insn.len, jump::SHORT_LEN, island))
    }

    /// Padding between functions around `site`, in order, that is behind what never goes on into it and has bytes in
    /// `reach` (both ends included).
    fn padding_near(
        &self,
        site: Address,
        reach: Range<Address>,
    ) -> impl Iterator<Item = Range<Address>> + '_ {
        let near = self.functions.partition_point(|function| function.range.start <= site);
        let indices = near.saturating_sub(NEIGHBOURS)..self.functions.len().min(near + NEIGHBOURS);
        indices.filter_map(move |index| {
            let function = &self.functions[index];
            let start = function.range.end;
            let next = self.functions.get(index + 1)?.range.start;
            let is_last = self.furthest[index] == start;
            let is_near = start <= reach.end && next > reach.start;
            (is_last && start < next && is_near && self.never_goes_on(function)).then_some(start..next)
        })
    }

    /// Whether nobody arrives in the bytes from `start`, the start of padding, to the end of an island at `at`, and all of
    /// them are padding.
    fn is_idle(&self, start: Address, at: Address) -> bool {
        let end = at + jump::LEN as u64;
        let mut here = start;
        while here < end {
            let Some(insn) = self.inspect(here).filter(|insn| insn.is_padding) else { return false };
            here += insn.len as u64;
        }
        let len = end - start;
        let none = |marks: &crate::marks::Marks| marks.first_in(start.span(len)).is_none();
        none(&self.reached.targets) && none(&self.reached.returns)
    }

    /// Whether a function ends in an instruction that never goes on to the next one, or in padding behind such.
    fn never_goes_on(&self, function: &Function) -> bool {
        let Range { start, end } = function.range;
        if function.first_bad.is_some() {
            return false;
        }
        let Some(bytes) = self.bytes_from(start) else { return false };
        let Some(last) = end.0.checked_sub(1).map(Address) else { return false };
        let Some(starts) = decode::boundaries(self.isa, start, bytes, start, last) else { return false };
        let insns = starts.iter().rev().filter_map(|at| self.inspect(*at));
        insns.into_iter().find(|insn| !insn.is_padding).is_some_and(|insn| insn.flow == Flow::Leaves)
    }
}

impl Span {
    fn by_island(site: Address, len: usize, overwritten: usize, island: Address) -> Self {
        Self {
            start: site,
            mechanism: Mechanism::Pun,
            insns: Run::of(site, len),
            len,
            overwritten,
            island: Some(island),
        }
    }
}
