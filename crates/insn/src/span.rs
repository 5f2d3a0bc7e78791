//! One patch: which whole instructions it displaces, and whether it may.
//!
//! A jump may begin before the site it is made for. Whoever runs an instruction of a straight run that nobody enters in
//! between runs those behind it too, so a site without room for a jump of its own (`ret` at the end of a function, the
//! last instruction before a branch target) is served by one that begins earlier in its run. All bytes from there to the
//! site are overwritten: each old boundary among them traps, as in any other span.

use std::ops::Range;

use crate::address::Address;
use crate::decode::{self, Flow, Insn};
use crate::plan::{Displaced, MAX_OVERWRITTEN, Mechanism, Patch, Reason};
use crate::set::Analysis;
use crate::sweep::Function;

/// A patch that is allowed: what it displaces and overwrites.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) start: Address,
    mechanism: Mechanism,
    /// Start and length of each instruction.
    pub(crate) insns: Vec<(Address, usize)>,
    /// Bytes of them together.
    len: usize,
    overwritten: usize,
}

impl Span {
    /// The first address that is neither overwritten nor displaced.
    pub(crate) fn end(&self) -> Address {
        self.start + self.len.max(self.overwritten) as u64
    }

    /// Offsets of the instructions behind the first.
    pub(crate) fn interior(&self) -> impl Iterator<Item = u64> + '_ {
        self.insns.iter().skip(1).map(|(at, _)| *at - self.start)
    }

    /// Whether an instruction that is displaced begins at `at`.
    pub(crate) fn displaces(&self, at: Address) -> bool {
        self.insns.iter().any(|(start, _)| *start == at)
    }
}

/// Where the decoded instructions come from.
pub(crate) trait Insns {
    /// The instruction at `at`, if it may run elsewhere.
    fn displaceable(&self, at: Address) -> Result<Insn, Reason>;
}

impl Insns for Analysis<'_> {
    fn displaceable(&self, at: Address) -> Result<Insn, Reason> {
        let bytes = self.bytes_from(at).ok_or(Reason::OutsideCode)?;
        let insn = decode::displaceable(self.isa, at, bytes)?;
        let bytes = bytes.get(..insn.len).ok_or(Reason::Undecodable)?;
        if self.shadow_stack && insn.flow == Flow::Call {
            let instruction =
                decode::disassemble(self.isa, at, bytes).pop().map_or_else(String::new, |line| line.2);
            let why = "the program's shadow stack takes return addresses from real calls only".to_owned();
            return Err(Reason::NotDisplaceable { instruction, why });
        }
        Ok(insn)
    }
}

impl Analysis<'_> {
    /// The breakpoint at `at`.
    pub(crate) fn trap(&self, insns: &impl Insns, at: Address) -> Result<Span, Reason> {
        self.span(insns, at, Mechanism::Trap, decode::patch_len(self.isa, Mechanism::Trap))
    }

    /// The jump at `start` that serves the instruction at `site`, there or behind it.
    pub(crate) fn jump(&self, insns: &impl Insns, start: Address, site: Address) -> Result<Span, Reason> {
        let through = usize::try_from(site - start).unwrap_or(usize::MAX).saturating_add(1);
        self.span(insns, start, Mechanism::Jump, decode::patch_len(self.isa, Mechanism::Jump).max(through))
    }

    /// The jumps for the instruction at `site` that begin at one of those `before` it (in order), the nearest first.
    pub(crate) fn earlier_jumps<'s>(
        &'s self,
        insns: &'s impl Insns,
        site: Address,
        before: &'s [Address],
    ) -> impl Iterator<Item = Span> + 's {
        let before = if self.is_reached(site) { &[] } else { before };
        let near = before.iter().rev().take_while(move |start| site - **start < MAX_OVERWRITTEN);
        // A landing pad stays where it is, and padding may be what nobody comes through.
        let is_run = |insn: Insn| !insn.is_landing_pad && !insn.is_padding;
        let may_begin = move |start: &&Address| insns.displaceable(**start).is_ok_and(is_run);
        near.filter(may_begin)
            .filter_map(move |start| self.jump(insns, *start, site).ok())
            .filter(move |span| span.displaces(site))
    }

    /// Whether the program arrives at `at` from elsewhere than the instruction before.
    pub(crate) fn is_reached(&self, at: Address) -> bool {
        self.reached.targets.contains(at) || self.reached.returns.contains(at)
    }

    /// What `overwritten` bytes from `start`, the start of an instruction, displace, if they may be overwritten.
    fn span(
        &self,
        insns: &impl Insns,
        start: Address,
        mechanism: Mechanism,
        overwritten: usize,
    ) -> Result<Span, Reason> {
        let mut span = Span { start, mechanism, insns: Vec::with_capacity(4), len: 0, overwritten };
        self.cover(insns, &mut span, self.function_at(start))?;
        self.check_interior(start, overwritten)?;
        self.check_refused(start..span.end())?;
        Ok(span)
    }

    /// Whole instructions until the overwritten bytes are covered, or fewer where padding follows.
    fn cover(&self, insns: &impl Insns, span: &mut Span, function: Option<&Function>) -> Result<(), Reason> {
        let end = function.map(|function| function.range.end);
        let mut has_left = false;
        while span.len < span.overwritten {
            let here = span.start + span.len as u64;
            if has_left && end.is_none_or(|end| here >= end) {
                return self.check_padding(here, span.start + span.overwritten as u64, function);
            }
            if !span.insns.is_empty() {
                may_go_on(here, function)?;
            }
            // Padding within a function is displaced like the rest: whoever arrives there after all is found.
            if has_left && !self.inspect(here).is_some_and(|insn| insn.is_padding) {
                return Err(Reason::NotStraight { at: here });
            }
            let insn = insns.displaceable(here)?;
            span.insns.push((here, insn.len));
            span.len += insn.len;
            match insn.flow {
                Flow::Next | Flow::Conditional => {}
                Flow::Call | Flow::Syscall if span.len < span.overwritten => {
                    return Err(Reason::ReturnAddressInside { target: here + insn.len as u64 });
                }
                Flow::Call | Flow::Syscall => {}
                Flow::Leaves => has_left = true,
            }
        }
        Ok(())
    }

    /// Behind an instruction that never goes on, only padding between functions may be overwritten.
    fn check_padding(&self, from: Address, to: Address, function: Option<&Function>) -> Result<(), Reason> {
        let end = function.map(|function| function.range.end).ok_or(Reason::UnknownFunction)?;
        if from != end {
            return Err(Reason::NotStraight { at: from });
        }
        if let Some(at) = function.and_then(|function| function.first_bad) {
            return Err(Reason::FunctionUndecodable { at });
        }
        let mut at = from;
        while at < to {
            let padding = self
                .bytes_from(at)
                .and_then(|bytes| decode::inspect(self.isa, at, bytes))
                .filter(|insn| insn.is_padding && self.function_at(at).is_none());
            at += padding.ok_or(Reason::EndOfFunction { end })?.len as u64;
        }
        Ok(())
    }

    /// Nobody may arrive strictly inside the bytes that are overwritten.
    fn check_interior(&self, start: Address, overwritten: usize) -> Result<(), Reason> {
        let interior = start + 1..start + overwritten as u64;
        if let Some(target) = self.reached.targets.first_in(interior.clone()) {
            return Err(Reason::TargetInside { target });
        }
        match self.reached.returns.first_in(interior) {
            Some(target) => Err(Reason::ReturnAddressInside { target }),
            None => Ok(()),
        }
    }

    /// The program keeps some code for itself.
    pub(crate) fn check_refused(&self, range: Range<Address>) -> Result<(), Reason> {
        match self.refused.iter().find(|refused| refused.start < range.end && range.start < refused.end) {
            Some(refused) => Err(Reason::RestartableSequence { start: refused.start }),
            None => Ok(()),
        }
    }

    /// The patch that makes `span`; `is_site` tells the instructions that are probed.
    pub(crate) fn patch(&self, span: &Span, is_site: impl Fn(Address) -> bool) -> Result<Patch, Reason> {
        let Span { start, mechanism, .. } = *span;
        let bytes = self.bytes_from(start).ok_or(Reason::OutsideCode)?;
        let dead = decode::dead(self.isa, start, bytes, span.insns.len());
        let displaced = span.insns.iter().zip(dead).map(|(&(address, len), dead)| {
            let offset = usize::try_from(address - start).unwrap_or(usize::MAX);
            let bytes = bytes.get(offset..offset.saturating_add(len)).unwrap_or_default().to_vec();
            Displaced { address, bytes, dead, is_site: is_site(address) }
        });
        let displaced = displaced.collect();
        let overwritten = bytes.get(..span.overwritten).ok_or(Reason::EndOfFunction { end: start })?.to_vec();
        Ok(Patch { start, mechanism, overwritten, displaced })
    }
}

/// Whether a span may take in a further instruction at `at`.
fn may_go_on(at: Address, function: Option<&Function>) -> Result<(), Reason> {
    let function = function.ok_or(Reason::UnknownFunction)?;
    if let Some(at) = function.first_bad {
        return Err(Reason::FunctionUndecodable { at });
    }
    if at >= function.range.end {
        return Err(Reason::EndOfFunction { end: function.range.end });
    }
    Ok(())
}
