//! One patch: which whole instructions it displaces, and whether it may.
//!
//! A jump may begin before the site it is made for. Whoever runs an instruction of a straight run that nobody enters in
//! between runs those behind it too, so a site without room for a jump of its own (`ret` at the end of a function, the
//! last instruction before a branch target) is served by one that begins earlier in its run. All bytes from there to the
//! site are overwritten: each old boundary among them traps, as in any other span.
//!
//! Where that does not do, a jump may be longer than what it displaces (a *pun*; Chamith et al., "Instruction punning",
//! PLDI 2017): its last bytes are those of the instructions behind, which stay as they are and may be reached from
//! anywhere. They say where the stub has to lie. Prefixes without a meaning make other bytes say so (E9Patch's "padded
//! jump"; Duck, Gao, Roychoudhury, PLDI 2020).

use std::iter;
use std::ops::Range;

use crate::address::Address;
use crate::decode::{self, Flow, Insn};
use crate::place;
use crate::plan::{Displaced, Island, MAX_OVERWRITTEN, Mechanism, Patch, Reason};
use crate::set::Analysis;
use crate::sweep::Function;
use crate::x86::jump::Jump;

/// A patch that is allowed: what it displaces and overwrites.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) start: Address,
    pub(crate) mechanism: Mechanism,
    /// The instructions.
    pub(crate) insns: Run,
    /// Bytes of them together.
    pub(crate) len: usize,
    /// Bytes of the breakpoint, or of the jump and what it leaves before its site. Those of a pun go on behind `len`.
    pub(crate) overwritten: usize,
    /// Where a short jump leads on from.
    pub(crate) island: Option<Address>,
}

/// Room for stubs: free address ranges, sorted.
pub(crate) type Free<'a> = &'a [Range<Address>];

impl Span {
    /// The first address that is neither overwritten nor displaced.
    pub(crate) fn end(&self) -> Address {
        self.start + self.len.max(self.overwritten) as u64
    }

    /// Offsets of the instructions behind the first.
    pub(crate) fn interior(&self) -> impl Iterator<Item = u64> + '_ {
        self.insns.iter().skip(1).map(|(at, _)| at - self.start)
    }

    /// Bytes that change their value.
    fn written(&self) -> usize {
        if self.mechanism == Mechanism::Pun { self.len.min(self.overwritten) } else { self.overwritten }
    }

    /// The bytes of a pun that stay as they are.
    pub(crate) fn tail(&self) -> Range<Address> {
        // It may be longer than the code, where that ends with the address space.
        let written = self.written();
        (self.start + written as u64).span((self.overwritten - written) as u64)
    }

    pub(crate) fn is_pun(&self) -> bool {
        self.mechanism == Mechanism::Pun
    }

    /// Whether an instruction that is displaced begins at `at`.
    pub(crate) fn displaces(&self, at: Address) -> bool {
        self.insns.iter().any(|(start, _)| start == at)
    }
}

/// How many instructions a patch displaces at most: those that begin in the bytes it overwrites.
const MOST: usize = 16;
const _: () = assert!(MOST as u64 == MAX_OVERWRITTEN);

/// Instructions one behind the other, without an allocation: a survey makes a million of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    start: Address,
    count: usize,
    lens: [u8; MOST],
}

impl Run {
    fn new(start: Address) -> Self {
        Self { start, count: 0, lens: [0; MOST] }
    }

    /// A single instruction.
    pub(crate) fn of(start: Address, len: usize) -> Self {
        let mut run = Self::new(start);
        run.push(len);
        run
    }

    /// Adds an instruction. Each covers a byte at least, and no patch covers more than there is room for.
    fn push(&mut self, len: usize) {
        if let Some(place) = self.lens.get_mut(self.count) {
            *place = u8::try_from(len).unwrap_or(u8::MAX);
            self.count += 1;
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    /// Start and length of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Address, usize)> + '_ {
        self.lens[..self.count].iter().scan(self.start, |next, len| {
            let at = *next;
            *next += u64::from(*len);
            Some((at, usize::from(*len)))
        })
    }
}

/// Where the decoded instructions come from.
pub(crate) trait Insns {
    /// The instruction at `at`, if it decodes.
    fn inspect(&self, at: Address) -> Option<Insn>;
    /// The instruction at `at`, if it may run elsewhere.
    fn displaceable(&self, at: Address) -> Result<Insn, Reason>;
    /// The innermost function that contains `at`.
    fn function_at(&self, at: Address) -> Option<&Function>;
}

impl Insns for Analysis<'_> {
    fn inspect(&self, at: Address) -> Option<Insn> {
        Analysis::inspect(self, at)
    }

    fn displaceable(&self, at: Address) -> Result<Insn, Reason> {
        let bytes = self.bytes_from(at).ok_or(Reason::OutsideCode)?;
        let insn = decode::displaceable(self.isa, at, bytes)?;
        let bytes = bytes.get(..insn.len).ok_or(Reason::Undecodable)?;
        if self.needs_real_call(&insn) {
            let instruction =
                decode::disassemble(self.isa, at, bytes).pop().map_or_else(String::new, |line| line.2);
            let why = "the program's shadow stack takes return addresses from real calls only".to_owned();
            return Err(Reason::NotDisplaceable { instruction, why });
        }
        Ok(insn)
    }

    fn function_at(&self, at: Address) -> Option<&Function> {
        Analysis::function_at(self, at)
    }
}

impl Analysis<'_> {
    /// Whether it is a call that the program's shadow stack must see.
    pub(crate) fn needs_real_call(&self, insn: &Insn) -> bool {
        self.shadow_stack && insn.flow == Flow::Call
    }

    /// The breakpoint at `at`.
    pub(crate) fn trap(&self, insns: &impl Insns, at: Address) -> Result<Span, Reason> {
        let len = decode::patch_len(self.isa, Mechanism::Trap);
        let span = self.span(insns, at, Mechanism::Trap, (len, len))?;
        match self.function_at(at).filter(|function| function.has_transaction) {
            Some(function) => Err(Reason::Transaction { function: function.range.start }),
            None => Ok(span),
        }
    }

    /// The jump at `start` that serves the instruction at `site`, there or behind it.
    pub(crate) fn jump(&self, insns: &impl Insns, start: Address, site: Address) -> Result<Span, Reason> {
        let len = decode::patch_len(self.isa, Mechanism::Jump).max(through(start, site));
        self.span(insns, start, Mechanism::Jump, (len, len))
    }

    /// The best pun for the instruction at `site` whose stub has a place in `free` and whose tail `is_free` to stay: it
    /// begins there, or at an instruction of those `before` it.
    pub(crate) fn pun(
        &self,
        insns: &impl Insns,
        site: Address,
        before: &[Address],
        free: Free<'_>,
        is_free: impl Fn(Range<Address>) -> bool,
    ) -> Option<Span> {
        let earlier = self.starts_before(insns, site, before);
        let len = decode::patch_len(self.isa, Mechanism::Jump);
        let near = earlier.take_while(|start| site - *start < len as u64);
        let mut all: Vec<Span> =
            iter::once(site).chain(near).flat_map(|start| self.puns(insns, start, site)).collect();
        // The fewer bytes are fixed, the more stubs share a page.
        all.sort_by_key(|span| (span.overwritten - span.len, site - span.start, span.overwritten));
        all.into_iter().find(|span| is_free(span.tail()) && self.has_place(span, free))
    }

    /// The puns at `start` that displace the instruction at `site`.
    fn puns(&self, insns: &impl Insns, start: Address, site: Address) -> Vec<Span> {
        let jump = decode::patch_len(self.isa, Mechanism::Jump);
        let mut all: Vec<Span> = Vec::new();
        for covered in through(start, site)..jump {
            let Ok(span) = self.span(insns, start, Mechanism::Pun, (covered, jump)) else { break };
            if span.len < covered || span.len >= jump {
                break;
            }
            if all.last().is_none_or(|last| last.len < span.len) && span.displaces(site) {
                // Behind its opcode, where an old boundary may be.
                let most = span.interior().next().unwrap_or(span.len as u64) - 1;
                let prefixes = 0..=usize::try_from(most).unwrap_or(0);
                all.extend(prefixes.map(|more| Span { overwritten: jump + more, ..span.clone() }));
            }
        }
        all
    }

    /// Whether the stub of `span` has a place in `free` for which the jump's bytes may be what they must be.
    pub(crate) fn has_place(&self, span: &Span, free: Free<'_>) -> bool {
        // A single instruction that holds the whole jump says nothing of where it leads.
        let is_free = span.insns.len() == 1 && span.overwritten <= span.len;
        if span.mechanism == Mechanism::Trap || span.island.is_some() || is_free {
            return place::is_near(self.isa, span.start, free);
        }
        let bytes = self.bytes_from(span.start).and_then(|bytes| bytes.get(..span.overwritten));
        let tail = bytes.and_then(|bytes| bytes.get(span.written()..));
        tail.is_some_and(|tail| {
            let jump =
                Jump::new(self.isa, span.start, span.overwritten, span.interior(), (span.written(), tail));
            place::has_place(self.isa, span.start, &jump, free)
        })
    }

    /// The jumps for the instruction at `site` that begin at one of those `before` it (in order), the nearest first.
    pub(crate) fn earlier_jumps<'s>(
        &'s self,
        insns: &'s impl Insns,
        site: Address,
        before: &'s [Address],
    ) -> impl Iterator<Item = Span> + 's {
        self.starts_before(insns, site, before)
            .filter_map(move |start| self.jump(insns, start, site).ok())
            .filter(move |span| span.displaces(site))
    }

    /// Those of the instructions `before` the one at `site` from which a jump may serve it, the nearest first.
    fn starts_before<'s>(
        &'s self,
        insns: &'s impl Insns,
        site: Address,
        before: &'s [Address],
    ) -> impl Iterator<Item = Address> + 's {
        let before = if self.is_reached(site) { &[] } else { before };
        let near = before.iter().rev().copied().take_while(move |start| site - *start < MAX_OVERWRITTEN);
        // A landing pad stays where it is, and padding may be what nobody comes through.
        let is_run = |insn: Insn| !insn.is_landing_pad && !insn.is_padding;
        near.filter(move |start| insns.displaceable(*start).is_ok_and(is_run))
    }

    /// Whether the program arrives at `at` from elsewhere than the instruction before.
    pub(crate) fn is_reached(&self, at: Address) -> bool {
        self.reached.targets.contains(at) || self.reached.returns.contains(at)
    }

    /// What the `covered` bytes from `start`, the start of an instruction, displace, if they may be overwritten by a
    /// patch of `overwritten` bytes.
    pub(crate) fn span(
        &self,
        insns: &impl Insns,
        start: Address,
        mechanism: Mechanism,
        (covered, overwritten): (usize, usize),
    ) -> Result<Span, Reason> {
        let mut span = Span { start, mechanism, insns: Run::new(start), len: 0, overwritten, island: None };
        self.cover(insns, &mut span, covered, insns.function_at(start))?;
        self.check_interior(start, span.written())?;
        self.check_refused(start..start + span.len.max(span.written()) as u64)?;
        Ok(span)
    }

    /// Whole instructions until so many bytes are `covered`, or fewer where padding follows.
    fn cover(
        &self,
        insns: &impl Insns,
        span: &mut Span,
        covered: usize,
        function: Option<&Function>,
    ) -> Result<(), Reason> {
        let end = function.map(|function| function.range.end);
        let mut has_left = false;
        while span.len < covered {
            let here = span.start + span.len as u64;
            if has_left && (end.is_none_or(|end| here >= end) || is_filler(insns, here)) {
                return self.check_padding(insns, here..span.start + covered as u64, function);
            }
            if span.len > 0 {
                may_go_on(here, function)?;
            }
            // Padding within a function is displaced like the rest: whoever arrives there after all is found.
            if has_left && !insns.inspect(here).is_some_and(|insn| insn.is_padding) {
                return Err(Reason::NotStraight { at: here });
            }
            let insn = insns.displaceable(here)?;
            span.insns.push(insn.len);
            span.len += insn.len;
            match insn.flow {
                Flow::Next | Flow::Conditional => {}
                Flow::Call | Flow::Syscall if span.len < covered => {
                    return Err(Reason::ReturnAddressInside { target: here + insn.len as u64 });
                }
                Flow::Call | Flow::Syscall => {}
                Flow::Leaves => has_left = true,
            }
        }
        Ok(())
    }

    /// Behind an instruction that never goes on, what is overwritten without being displaced must be padding: between
    /// functions, or breakpoints at the end of one.
    fn check_padding(
        &self,
        insns: &impl Insns,
        range: Range<Address>,
        function: Option<&Function>,
    ) -> Result<(), Reason> {
        let function = function.ok_or(Reason::UnknownFunction)?;
        let end = function.range.end;
        if let Some(at) = function.first_bad {
            return Err(Reason::FunctionUndecodable { at });
        }
        let mut at = range.start;
        while at < range.end {
            let is_own = at < end && is_filler(insns, at);
            if at < end && !is_own {
                return Err(Reason::NotStraight { at });
            }
            let padding = insns.inspect(at).filter(|insn| insn.is_padding);
            let padding = padding.filter(|_| is_own || self.function_at(at).is_none());
            at += padding.ok_or(Reason::EndOfFunction { end })?.len as u64;
        }
        Ok(())
    }

    /// Nobody may arrive strictly inside the bytes that are overwritten, or read any of them.
    pub(crate) fn check_interior(&self, start: Address, overwritten: usize) -> Result<(), Reason> {
        if let Some(at) = self.reached.data.first_in(start..start + overwritten as u64) {
            return Err(Reason::ReadAsData { at });
        }
        let interior = start + 1..start + overwritten as u64;
        if let Some(target) = self.reached.targets.first_in(interior.clone()) {
            return Err(Reason::TargetInside { target });
        }
        match self.reached.returns.first_in(interior) {
            Some(target) => Err(Reason::ReturnAddressInside { target }),
            None => Ok(()),
        }
    }

    /// The program keeps some code for itself, and what leads into it: the instruction before a restartable sequence tells
    /// the kernel of it, and the kernel forgets that if it then finds the thread elsewhere (rseq(2); kernel/rseq.c,
    /// `rseq_ip_fixup`).
    pub(crate) fn check_refused(&self, range: Range<Address>) -> Result<(), Reason> {
        match self.refused.iter().find(|refused| refused.start <= range.end && range.start < refused.end) {
            Some(refused) => Err(Reason::RestartableSequence { start: refused.start }),
            None => Ok(()),
        }
    }

    /// The patch that makes `span`; `is_site` tells the instructions that are probed.
    pub(crate) fn patch(&self, span: &Span, is_site: impl Fn(Address) -> bool) -> Result<Patch, Reason> {
        let Span { start, mechanism, .. } = *span;
        let bytes = self.bytes_from(start).ok_or(Reason::OutsideCode)?;
        let dead = decode::dead(self.isa, start, bytes, span.insns.len());
        let displaced = span.insns.iter().zip(dead).map(|((address, len), dead)| {
            let offset = usize::try_from(address - start).unwrap_or(usize::MAX);
            let bytes = bytes.get(offset..offset.saturating_add(len)).unwrap_or_default().to_vec();
            Displaced { address, bytes, dead, is_site: is_site(address) }
        });
        let displaced = displaced.collect();
        let overwritten = bytes.get(..span.overwritten).ok_or(Reason::EndOfFunction { end: start })?.to_vec();
        let island = span.island.map(|at| {
            let len = decode::patch_len(self.isa, Mechanism::Jump);
            let bytes = self.bytes_from(at).and_then(|bytes| bytes.get(..len));
            bytes.map(|bytes| Island { at, overwritten: bytes.to_vec() }).ok_or(Reason::OutsideCode)
        });
        Ok(Patch { start, mechanism, overwritten, displaced, island: island.transpose()? })
    }
}

/// Whether a breakpoint is at `at`: padding that cannot be displaced, and nobody stands there.
fn is_filler(insns: &impl Insns, at: Address) -> bool {
    insns.inspect(at).is_some_and(|insn| insn.is_padding) && insns.displaceable(at).is_err()
}

/// How many bytes from `start` on a patch overwrites at least that serves `site`: up to its first.
fn through(start: Address, site: Address) -> usize {
    usize::try_from(site - start).unwrap_or(usize::MAX).saturating_add(1)
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
