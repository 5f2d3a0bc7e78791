//! How each instruction of a module would be probed if it were the only one.
//!
//! The rules are those of [`Analysis::plan`], instruction by instruction in the order of the code, by all processors; no
//! patch is made and no stub placed, it is only asked whether there is a place.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

use crate::address::Address;
use crate::decode::{Flow, Insn, Reader};
use crate::pieces;
use crate::plan::Reason;
use crate::set::Analysis;
use crate::span::Insns;
use crate::sweep::Function;

/// How many instructions are probed in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By a jump, at the instruction or before it.
    pub jump: u64,
    /// Of those: by a jump that begins at an earlier instruction.
    pub earlier: u64,
    /// By a jump whose last bytes are those of the next instructions.
    pub pun: u64,
    /// By a breakpoint.
    pub trap: u64,
    /// Not at all.
    pub refused: u64,
}

impl Tally {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.jump + self.pun + self.trap + self.refused
    }

    fn note(&mut self, found: &Found) {
        match found {
            Found::Jump => self.jump += 1,
            Found::Earlier => {
                self.jump += 1;
                self.earlier += 1;
            }
            Found::Pun => self.pun += 1,
            Found::Trap(_) => self.trap += 1,
            Found::Refused(_) => self.refused += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.jump += other.jump;
        self.earlier += other.earlier;
        self.pun += other.pun;
        self.trap += other.trap;
        self.refused += other.refused;
    }
}

/// Reasons, without addresses, and how often each was found.
pub type Reasons = BTreeMap<String, u64>;

/// What was found in the functions of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Functions, those that share their code with another counted once each.
    pub functions: u64,
    /// All instructions of functions, without the padding behind those that never go on.
    pub all: Tally,
    /// Those at which a function begins.
    pub entries: Tally,
    /// Those that return from one.
    pub returns: Tally,
    /// Why breakpoints are no jumps.
    pub no_jump: Reasons,
    /// Why instructions are refused.
    pub refused: Reasons,
}

impl Survey {
    fn note(&mut self, found: &Found, is_entry: bool, is_return: bool) {
        self.all.note(found);
        if is_entry {
            self.entries.note(found);
        }
        if is_return {
            self.returns.note(found);
        }
        match found {
            Found::Jump | Found::Earlier | Found::Pun => {}
            Found::Trap(reason) => count(&mut self.no_jump, reason.kind(), 1),
            Found::Refused(reason) => count(&mut self.refused, reason.kind(), 1),
        }
    }

    fn add(&mut self, other: Self) {
        self.functions += other.functions;
        self.all.add(other.all);
        self.entries.add(other.entries);
        self.returns.add(other.returns);
        other.no_jump.into_iter().for_each(|(reason, times)| count(&mut self.no_jump, reason.into(), times));
        other.refused.into_iter().for_each(|(reason, times)| count(&mut self.refused, reason.into(), times));
    }
}

fn count(reasons: &mut Reasons, reason: Cow<'_, str>, times: u64) {
    match reasons.get_mut(&*reason) {
        Some(known) => *known += times,
        None => drop(reasons.insert(reason.into_owned(), times)),
    }
}

/// What becomes of one instruction.
enum Found {
    Jump,
    Earlier,
    Pun,
    /// And why it is no jump.
    Trap(Reason),
    Refused(Reason),
}

/// The instructions decoded last, each at the place of its address modulo their number: neighbours ask for the same ones.
struct Recent<'a> {
    analysis: &'a Analysis<'a>,
    reader: RefCell<Reader<'a>>,
    slots: RefCell<[Slot; RECENT]>,
    /// The function looked at, and where no other is further in.
    function: Cell<(usize, Address, Address)>,
}

/// An address, the instruction there, if it decodes, and whether it may run elsewhere.
#[derive(Clone, Copy)]
struct Slot {
    at: Address,
    insn: Option<Insn>,
    is_displaceable: bool,
}

/// No code lies at the last address.
const EMPTY: Slot = Slot { at: Address(u64::MAX), insn: None, is_displaceable: false };

/// More than the bytes between the first and the last instruction that one is decided by.
const RECENT: usize = 64;

impl Recent<'_> {
    fn look(&self, at: Address) -> Slot {
        let slot = &mut self.slots.borrow_mut()[usize::try_from(at.0 % RECENT as u64).unwrap_or(0)];
        if slot.at != at {
            let (insn, may_move) = self.reader.borrow_mut().look(at).unzip();
            let needs_real_call = insn.is_some_and(|insn| self.analysis.needs_real_call(&insn));
            *slot = Slot { at, insn, is_displaceable: may_move.unwrap_or(false) && !needs_real_call };
        }
        *slot
    }
}

impl Insns for Recent<'_> {
    fn inspect(&self, at: Address) -> Option<Insn> {
        self.look(at).insn
    }

    fn displaceable(&self, at: Address) -> Result<Insn, Reason> {
        match self.look(at) {
            Slot { insn: Some(insn), is_displaceable: true, .. } => Ok(insn),
            // The reason is seldom asked for, and large.
            _ => self.analysis.displaceable(at),
        }
    }

    fn function_at(&self, at: Address) -> Option<&Function> {
        let (index, start, end) = self.function.get();
        if (start..end).contains(&at) {
            self.analysis.functions.get(index)
        } else {
            self.analysis.function_at(at)
        }
    }
}

impl Analysis<'_> {
    /// Looks at every instruction of every function, each as if it alone were probed and its stub might be anywhere in
    /// `free` (sorted).
    #[must_use]
    pub fn survey(&self, free: &[Range<Address>]) -> Survey {
        let len = |range: &Range<Address>| range.end.0.saturating_sub(range.start.0);
        let pieces = pieces::divide(self.functions.iter().map(|function| len(&function.range)));
        let look = |piece: Range<usize>, survey: &mut Survey| {
            let slots = RefCell::new([EMPTY; RECENT]);
            let reader = RefCell::new(Reader::new(self.isa, &self.code));
            let recent = Recent { analysis: self, reader, slots, function: Cell::default() };
            piece.for_each(|index| self.look_at(&recent, index, free, survey));
        };
        let mut all = Survey::default();
        pieces::work(&pieces, look, &mut || {}).into_iter().for_each(|part| all.add(part));
        all
    }

    /// The instructions of one function, but for those of functions inside it.
    fn look_at(&self, recent: &Recent<'_>, index: usize, free: &[Range<Address>], survey: &mut Survey) {
        let function = &self.functions[index];
        let Range { start, end } = function.range;
        // Nothing of it is known to be an instruction (or it was too much to decode).
        if function.first_bad == Some(start) {
            return;
        }
        survey.functions += 1;
        let next = self.functions.get(index + 1).map_or(end, |next| next.range.start);
        let is_innermost = |at| at < next || self.function_at(at).is_some_and(|inner| inner == function);
        let mut before = Vec::new();
        recent.function.set((index, start, end.min(next)));
        let mut has_left = false;
        let mut at = start;
        while at < end {
            let Some(insn) = self.insn_in(recent, at..end) else {
                at += 1;
                continue;
            };
            has_left = insn.flow == Flow::Leaves || has_left && insn.is_padding;
            let is_idle = has_left && insn.is_padding;
            if !is_idle && is_innermost(at) {
                let found = self.alone(recent, (at, &insn), &before, free);
                survey.note(&found, at == start, insn.is_return);
            }
            before.push(at);
            at += insn.len as u64;
        }
    }

    /// The instruction at the start of `range`, if it ends in it.
    fn insn_in(&self, recent: &Recent<'_>, range: Range<Address>) -> Option<Insn> {
        let at = range.start;
        let insn = recent.inspect(at)?;
        (insn.len as u64 <= range.end - at).then_some(insn)
    }

    /// How the instruction at `at`, with those `before` it in its function, would be probed.
    fn alone(
        &self,
        insns: &Recent<'_>,
        (at, insn): (Address, &Insn),
        before: &[Address],
        free: &[Range<Address>],
    ) -> Found {
        let bad = insns.function_at(at).and_then(|function| function.first_bad).filter(|bad| at > *bad);
        let before = match bad {
            Some(bad) if !self.reached.targets.contains(at) => {
                return Found::Refused(Reason::FunctionUndecodable { at: bad });
            }
            Some(_) => &[],
            None => before,
        };
        let behind = if insn.is_landing_pad { self.behind_landing_pad(at) } else { None };
        let (at, before) = behind.map_or((at, before), |behind| (behind, &[]));
        let no_jump = match self.jump(insns, at, at) {
            Ok(span) if self.has_place(&span, free) => return Found::Jump,
            Ok(_) => Reason::NoRoom,
            Err(reason) => reason,
        };
        if self.earlier_jumps(insns, at, before).any(|span| self.has_place(&span, free)) {
            return Found::Earlier;
        }
        let by_island = || self.by_island(insns, at, |_| true).filter(|span| self.has_place(span, free));
        let by_eviction = || self.by_eviction(insns, at, free, |_| true).map(|(span, _)| span);
        if self.pun(insns, at, before, free, |_| true).or_else(by_island).or_else(by_eviction).is_some() {
            return Found::Pun;
        }
        match self.trap(insns, at) {
            Ok(span) if self.has_place(&span, free) => Found::Trap(no_jump),
            Ok(_) => Found::Refused(Reason::NoRoom),
            Err(reason) => Found::Refused(reason),
        }
    }
}
