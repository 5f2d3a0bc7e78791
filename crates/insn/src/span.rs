//! One patch: which whole instructions it displaces, and whether it may.

use std::ops::Range;

use crate::address::Address;
use crate::decode::{self, Flow, Insn};
use crate::plan::{Displaced, Mechanism, Patch, Reason};
use crate::set::Analysis;
use crate::sweep::Function;

/// The instructions of a patch in the making.
#[derive(Default)]
struct Span {
    insns: Vec<(Address, usize)>,
    /// Bytes of them together.
    len: usize,
}

impl Analysis<'_> {
    /// The patch of the given mechanism at `start`, which is the start of an instruction.
    pub(crate) fn patch(
        &self,
        start: Address,
        function: Option<&Function>,
        mechanism: Mechanism,
    ) -> Result<Patch, Reason> {
        let overwritten = decode::patch_len(self.isa, mechanism);
        let span = self.span(start, function, overwritten)?;
        self.check_interior(start, overwritten)?;
        self.check_refused(start..start + span.len.max(overwritten) as u64)?;
        self.finish(start, mechanism, &span, overwritten)
    }

    /// Whole instructions from `start` until `wanted` bytes are covered, or fewer where padding follows.
    fn span(&self, start: Address, function: Option<&Function>, wanted: usize) -> Result<Span, Reason> {
        let mut span = Span::default();
        while span.len < wanted {
            let here = start + span.len as u64;
            if !span.insns.is_empty() {
                may_go_on(here, function)?;
            }
            let insn = self.displaceable(here)?;
            span.insns.push((here, insn.len));
            span.len += insn.len;
            if span.len >= wanted {
                break;
            }
            let behind = here + insn.len as u64;
            match insn.flow {
                Flow::Next | Flow::Conditional => {}
                Flow::Call | Flow::Syscall => return Err(Reason::ReturnAddressInside { target: behind }),
                Flow::Leaves => {
                    self.check_padding(behind, start + wanted as u64, function)?;
                    break;
                }
            }
        }
        Ok(span)
    }

    /// The instruction at `at`, if it may run elsewhere.
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

    fn finish(
        &self,
        start: Address,
        mechanism: Mechanism,
        span: &Span,
        overwritten: usize,
    ) -> Result<Patch, Reason> {
        let bytes = self.bytes_from(start).ok_or(Reason::OutsideCode)?;
        let dead = decode::dead(self.isa, start, bytes, span.insns.len());
        let displaced = span.insns.iter().zip(dead).map(|(&(address, len), dead)| {
            let offset = usize::try_from(address - start).unwrap_or(usize::MAX);
            let bytes = bytes.get(offset..offset.saturating_add(len)).unwrap_or_default().to_vec();
            Displaced { address, bytes, dead, is_site: false }
        });
        let displaced = displaced.collect();
        let overwritten = bytes.get(..overwritten).ok_or(Reason::EndOfFunction { end: start })?.to_vec();
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
