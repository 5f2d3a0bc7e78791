//! Islands: jumps in the padding between functions (and, see [`crate::eviction`], elsewhere).
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
        let short = self.short_jump(insns, site)?;
        let reach = short.reach();
        let padding = self.padding_near(site, reach.clone());
        let island = padding.flat_map(|gap| {
            let last = gap.end.0.saturating_sub(jump::LEN as u64).min(reach.end.0);
            let places = gap.start.max(reach.start).0..=last;
            places.map(Address).find(|at| is_free(at.span(jump::LEN as u64)) && self.is_idle(gap.start, *at))
        });
        island.into_iter().next().map(|island| short.span(island))
    }

    /// The instruction at `site`, if a short jump may stand there.
    pub(crate) fn short_jump(&self, insns: &impl Insns, site: Address) -> Option<Short> {
        let insn = insns.displaceable(site).ok().filter(|insn| insn.len >= jump::SHORT_LEN)?;
        self.check_interior(site, jump::SHORT_LEN).ok()?;
        self.check_refused(site..site + insn.len as u64).ok()?;
        let short = Short { site, len: insn.len };
        (short.behind() <= short.page() + PAGE).then_some(short)
    }

    /// The functions around a site, as far as it may reach.
    pub(crate) fn functions_near(&self, site: Address) -> &[Function] {
        let near = self.functions.partition_point(|function| function.range.start <= site);
        &self.functions[near.saturating_sub(NEIGHBOURS)..self.functions.len().min(near + NEIGHBOURS)]
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
        none(&self.reached.targets) && none(&self.reached.returns) && none(&self.reached.data)
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

/// An instruction that has room for a short jump.
pub(crate) struct Short {
    pub(crate) site: Address,
    len: usize,
}

impl Short {
    /// The end of the instruction.
    pub(crate) fn end(&self) -> Address {
        self.site + self.len as u64
    }

    /// The end of the jump.
    fn behind(&self) -> Address {
        self.site + jump::SHORT_LEN as u64
    }

    pub(crate) fn page(&self) -> Address {
        Address(self.site.0 / PAGE * PAGE)
    }

    /// The first and the last place of an island.
    pub(crate) fn reach(&self) -> Range<Address> {
        let (page, behind) = (self.page(), self.behind());
        let least = Address(behind.0.saturating_sub(128)).max(page);
        least..(behind + 127).min(page + (PAGE - jump::LEN as u64))
    }

    /// The patch that leads to `island`.
    pub(crate) fn span(&self, island: Address) -> Span {
        Span {
            start: self.site,
            mechanism: Mechanism::Pun,
            insns: Run::of(self.site, self.len),
            len: self.len,
            overwritten: jump::SHORT_LEN,
            island: Some(island),
        }
    }
}
