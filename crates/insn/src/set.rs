//! Planning all sites of a module together.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::address::Address;
use crate::code::{Code, Outline};
use crate::decode::{self, Insn};
use crate::isa::Isa;
use crate::place::PAGE;
use crate::plan::{Mechanism, Patch, Plan, Reason, Refusal, Rejected};
use crate::schedule;
use crate::span::{Free, Span};
use crate::sweep::{self, Function, MAX_NESTING, Reached};

/// Everything about a module's code that planning asks for; made once per module, used for every plan.
#[derive(Debug)]
pub struct Analysis<'a> {
    pub(crate) isa: Isa,
    pub(crate) code: Vec<Code<'a>>,
    /// Sorted by start.
    pub(crate) functions: Vec<Function>,
    /// For each function the highest end of those up to it: bounds the search backwards for one that contains an address.
    pub(crate) furthest: Vec<Address>,
    pub(crate) reached: Reached,
    pub(crate) refused: Vec<Range<Address>>,
    pub(crate) shadow_stack: bool,
}

/// How many of the patches before a site may be as near to it as its island: a patch has a byte at least.
const MAX_BEHIND: usize = 512;

/// How many bytes before a site its predecessors are looked for: more than a jump overwrites, and no less than the longest
/// instruction.
const TRAIL: u64 = 16;

impl<'a> Analysis<'a> {
    /// Sweeps the module: decodes every function once and collects branch targets.
    ///
    /// With `shadow_stack` no `call` is ever displaced: a return address that no call of the same address pushed makes
    /// the return fault. `progress` is told the number of bytes of code done so far, now and then.
    pub fn new(
        isa: Isa,
        code: &[Code<'a>],
        outline: &Outline<'_>,
        shadow_stack: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Self {
        let code = disjoint(code);
        let data = disjoint(&outline.data);
        let mut ranges = outline.functions.clone();
        ranges.sort_by_key(|range| (range.start, range.end));
        let (functions, reached) = sweep::sweep(isa, &code, &ranges, &data, outline, progress);
        let furthest = functions
            .iter()
            .scan(Address(0), |furthest, function| {
                *furthest = function.range.end.max(*furthest);
                Some(*furthest)
            })
            .collect();
        Self { isa, code, functions, furthest, reached, refused: outline.refused.clone(), shadow_stack }
    }

    /// Plans `sites` (any order, duplicates allowed) together. `force` pins the mechanism of some sites. Jumps are chosen
    /// only where a stub for each alone has a place in `free` (sorted).
    ///
    /// Of all jumps that are allowed, at the sites and before them, those are chosen that together serve the most sites
    /// ([`schedule`]), so no choice is regretted: a site that has a jump alone has one among others too, as long as the
    /// one that two overlapping jumps must become is not too long. What no other jump serves may have a pun, as long as the
    /// bytes that it leaves belong to no site. The rest becomes a breakpoint.
    #[must_use]
    pub fn plan(
        &self,
        sites: &[Address],
        force: &HashMap<Address, Mechanism>,
        free: &[Range<Address>],
    ) -> Plan {
        let mut planner = Planner {
            analysis: self,
            free,
            walked: HashMap::new(),
            wanted: BTreeMap::new(),
            plan: Plan::default(),
            evicted: Vec::new(),
        };
        let mut sites = sites.to_vec();
        sites.sort_unstable();
        sites.dedup();
        for site in sites {
            planner.locate(site, force.get(&site).copied());
        }
        planner.choose();
        planner.plan
    }

    /// The code from `at` to the end of its segment.
    pub(crate) fn bytes_from(&self, at: Address) -> Option<&'a [u8]> {
        sweep::bytes_from(&self.code, at)
    }

    pub(crate) fn inspect(&self, at: Address) -> Option<Insn> {
        decode::inspect(self.isa, at, self.bytes_from(at)?)
    }

    /// The instruction behind the landing pad at `site`, if whoever runs it came from there, and the other way round.
    pub(crate) fn behind_landing_pad(&self, site: Address) -> Option<Address> {
        let insn = self.inspect(site).filter(|insn| insn.is_landing_pad)?;
        let behind = site + insn.len as u64;
        let is_same_function = self.function_at(site).is_none_or(|function| behind < function.range.end);
        let may_serve = is_same_function && !self.is_reached(behind) && self.inspect(behind).is_some();
        may_serve.then_some(behind)
    }

    /// The innermost function that contains `at`.
    pub(crate) fn function_at(&self, at: Address) -> Option<&Function> {
        let behind = self.functions.partition_point(|function| function.range.start <= at);
        (0..behind)
            .rev()
            .take(MAX_NESTING)
            .take_while(|&index| self.furthest[index] > at)
            .map(|index| &self.functions[index])
            .find(|function| function.range.end > at)
    }
}

/// Sorted by start, without empty ones, those that overlap an earlier one, and those that reach the last page of all: nothing
/// is ever mapped there, and addresses behind an instruction would wrap.
fn disjoint<'a>(stretches: &[Code<'a>]) -> Vec<Code<'a>> {
    let mut sorted: Vec<Code<'a>> = stretches
        .iter()
        .filter(|code| {
            !code.bytes.is_empty() && code.start.0.checked_add(code.bytes.len() as u64 + PAGE).is_some()
        })
        .copied()
        .collect();
    sorted.sort_by_key(|code| code.start);
    let mut end = Address(0);
    sorted.retain(|code| {
        let fits = code.start >= end;
        if fits {
            end = code.start + code.bytes.len() as u64;
        }
        fits
    });
    sorted
}

/// An instruction that is to be probed, for one or several of the sites asked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    sites: Vec<Address>,
    pub(crate) force: Option<Mechanism>,
    /// The instructions before it in its function, in order.
    before: Vec<Address>,
}

/// A plan in the making.
struct Planner<'p, 'a> {
    analysis: &'p Analysis<'a>,
    free: Free<'p>,
    /// The last boundaries of each function (by its start and end) as far as it has been decoded: sites come in order.
    walked: HashMap<(Address, Address), Vec<Address>>,
    wanted: BTreeMap<Address, Wanted>,
    plan: Plan,
    /// Patches without a site, which make room for an island.
    evicted: Vec<Patch>,
}

impl Planner<'_, '_> {
    fn refuse(&mut self, address: Address, reason: Reason) {
        let bytes = self.analysis.bytes_from(address).unwrap_or_default();
        let bytes = bytes.get(..16).unwrap_or(bytes).to_vec();
        self.plan.refused.push(Refusal { address, bytes, reason });
    }

    /// Finds the instruction that serves `site`.
    fn locate(&mut self, site: Address, force: Option<Mechanism>) {
        match self.start_of(site) {
            Ok((at, before)) => {
                if at != site {
                    self.plan.moved.push((site, at));
                }
                let wanted = self.wanted.entry(at).or_default();
                wanted.sites.push(site);
                if wanted.before.is_empty() {
                    wanted.before = before;
                }
                // Of two that ask for different mechanisms the trap is the one that always works.
                wanted.force = wanted.force.max(force);
            }
            Err(reason) => self.refuse(site, reason),
        }
    }

    /// The instruction that serves `site`, and those before it.
    fn start_of(&mut self, site: Address) -> Result<(Address, Vec<Address>), Reason> {
        self.analysis.bytes_from(site).ok_or(Reason::OutsideCode)?;
        let before = self.before(site)?;
        self.analysis.inspect(site).ok_or(Reason::Undecodable)?;
        Ok(self.analysis.behind_landing_pad(site).map_or((site, before), |behind| (behind, Vec::new())))
    }

    /// Decodes the site's function from its start to see whether an instruction begins at the site, and which ones
    /// before it.
    fn before(&mut self, site: Address) -> Result<Vec<Address>, Reason> {
        let Some(function) = self.analysis.function_at(site) else { return Ok(Vec::new()) };
        if let Some(at) = function.first_bad.filter(|bad| site > *bad) {
            // Behind the gap the decoding is a guess, unless the program itself goes there.
            let is_reached = self.analysis.reached.targets.contains(site);
            return if is_reached { Ok(Vec::new()) } else { Err(Reason::FunctionUndecodable { at }) };
        }
        let walked = self.walked.entry((function.range.start, function.range.end)).or_default();
        let from = walked.first().copied().unwrap_or(function.range.start);
        let bytes = self.analysis.bytes_from(from).ok_or(Reason::OutsideCode)?;
        let trail = Address(site.0.saturating_sub(TRAIL));
        *walked =
            decode::boundaries(self.analysis.isa, from, bytes, trail, site).ok_or(Reason::Undecodable)?;
        match walked.split_last() {
            Some((last, before)) if *last == site => Ok(before.to_vec()),
            Some((last, _)) => Err(Reason::InsideInstruction { start: *last }),
            None => Err(Reason::Undecodable),
        }
    }

    /// Gives each wanted instruction to a patch.
    fn choose(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        let (jumps, mut rejected) = self.jumps(&wanted);
        for span in schedule::best(jumps, &wanted) {
            self.push(&span, &wanted);
        }
        let chosen = std::mem::take(&mut self.plan.patches);
        for (&at, want) in &wanted {
            let behind = chosen.partition_point(|patch| patch.start <= at);
            let before = behind.checked_sub(1).map(|index| &chosen[index]);
            match before.filter(|patch| at < patch.end()) {
                Some(patch) if patch.displaced.iter().any(|insn| insn.address == at) => {
                    let no_jump = rejected.remove(&at).filter(|_| patch.mechanism == Mechanism::Pun);
                    self.reject(want, no_jump.map(|reason| (Mechanism::Jump, reason)));
                }
                // Two overlapping functions disagree about where instructions begin, or it is padding.
                Some(_) => want.sites.iter().for_each(|site| self.refuse(*site, Reason::Overlap)),
                None => {
                    let no_jump = rejected.remove(&at).unwrap_or(Reason::Overlap);
                    self.fall_back(at, want, &no_jump, &chosen, &wanted);
                }
            }
        }
        self.plan.patches.extend(chosen);
        self.plan.patches.append(&mut self.evicted);
        self.plan.patches.sort_by_key(|patch| patch.start);
        self.plan.refused.sort_by_key(|refusal| refusal.address);
        self.plan.rejected.sort_by_key(|rejected| rejected.0);
    }

    /// Every jump that serves a wanted instruction, and why there is none at the instruction itself.
    fn jumps(&self, wanted: &BTreeMap<Address, Wanted>) -> (Vec<Span>, HashMap<Address, Reason>) {
        let mut rejected = HashMap::new();
        let mut jumps = Vec::new();
        let must_trap = |at: &Address| wanted.get(at).is_some_and(|want| want.force == Some(Mechanism::Trap));
        let is_allowed = |span: &Span| !span.insns.iter().any(|(at, _)| must_trap(&at));
        let has_place = |span: &Span| self.analysis.has_place(span, self.free);
        let fits = |span: &Span| is_allowed(span) && has_place(span);
        for (&at, want) in wanted.iter().filter(|(at, _)| !must_trap(at)) {
            let no_jump = match self.analysis.jump(self.analysis, at, at) {
                Ok(span) if !is_allowed(&span) => Some(Reason::Overlap),
                Ok(span) if !has_place(&span) => Some(Reason::NoRoom),
                Ok(span) => {
                    jumps.push(span);
                    None
                }
                Err(reason) => Some(reason),
            };
            let known = jumps.len();
            jumps.extend(self.analysis.earlier_jumps(self.analysis, at, &want.before).filter(fits));
            let Some(no_jump) = no_jump else { continue };
            rejected.insert(at, no_jump);
            if jumps.len() == known && want.force != Some(Mechanism::Jump) {
                jumps.extend(self.pun(at, want, wanted).filter(is_allowed));
            }
        }
        (jumps, rejected)
    }

    /// The pun that serves the instruction at `at` and leaves none as it is that is wanted.
    fn pun(&self, at: Address, want: &Wanted, wanted: &BTreeMap<Address, Wanted>) -> Option<Span> {
        let is_free = |tail: Range<Address>| wanted.range(tail).next().is_none();
        self.analysis.pun(self.analysis, at, &want.before, self.free, is_free)
    }

    /// Whether nothing of the plan is in `range`, with these patches `chosen` and those that were made since.
    fn is_idle(&self, range: &Range<Address>, chosen: &[Patch], wanted: &BTreeMap<Address, Wanted>) -> bool {
        let is_apart = |patch: &Patch| patch.end() <= range.start || range.end <= patch.start;
        let near = chosen.partition_point(|patch| patch.end() <= range.start);
        wanted.range(range.clone()).next().is_none()
            && chosen.get(near).is_none_or(|patch| patch.start >= range.end)
            && self.recent().all(is_apart)
            && self.has_no_island(range)
    }

    /// The patches made since the jumps were chosen, as far back as matters.
    fn recent(&self) -> impl Iterator<Item = &Patch> {
        let evicted = self.evicted.iter().rev().take(MAX_BEHIND);
        self.plan.patches.iter().rev().take(MAX_BEHIND).chain(evicted)
    }

    /// Whether no island of the plan is in `range`.
    fn has_no_island(&self, range: &Range<Address>) -> bool {
        let mut islands = self.recent().filter_map(|patch| patch.island.as_ref());
        islands.all(|island| island.end() <= range.start || range.end <= island.at)
    }

    /// The short jump at `at` to padding, to what a chosen patch leaves, or to what is evicted for it.
    fn by_short_jump(
        &self,
        at: Address,
        chosen: &[Patch],
        wanted: &BTreeMap<Address, Wanted>,
    ) -> Option<(Span, Option<Span>)> {
        let analysis = self.analysis;
        let is_idle = |range: Range<Address>| self.is_idle(&range, chosen, wanted);
        let padding = analysis.by_island(analysis, at, is_idle);
        let tail = || analysis.by_tail(analysis, at, chosen, |range| self.has_no_island(&range));
        if let Some(span) = padding.or_else(tail) {
            return analysis.has_place(&span, self.free).then_some((span, None));
        }
        let (span, evicted) = analysis.by_eviction(analysis, at, self.free, is_idle)?;
        analysis.has_place(&span, self.free).then_some((span, Some(evicted)))
    }

    /// What becomes of an instruction that no jump of [`schedule`]'s serves.
    fn fall_back(
        &mut self,
        at: Address,
        want: &Wanted,
        no_jump: &Reason,
        chosen: &[Patch],
        wanted: &BTreeMap<Address, Wanted>,
    ) {
        let start = self.plan.patches.last().map_or(Address(0), Patch::end);
        let behind = chosen.partition_point(|patch| patch.start <= at);
        let end = chosen.get(behind).map_or(Address(u64::MAX), |next| next.start);
        let is_free = |span: &Span| {
            let is_apart = |patch: &Patch| patch.end() <= at || span.end() <= patch.start;
            start <= at && span.end() <= end && self.evicted.iter().rev().take(MAX_BEHIND).all(is_apart)
        };
        let trap = || {
            let span = self.analysis.trap(self.analysis, at)?;
            if is_free(&span) { Ok(span) } else { Err(Reason::Overlap) }
        };
        let short = || self.by_short_jump(at, chosen, wanted).filter(|(span, _)| is_free(span));
        let (fallen, evicted) = match want.force {
            Some(Mechanism::Jump) => (Err(no_jump.clone()), None),
            Some(Mechanism::Trap) => (trap(), None),
            _ => short().map_or_else(|| (trap(), None), |(span, evicted)| (Ok(span), evicted)),
        };
        if let Some(evicted) = evicted.and_then(|span| self.analysis.patch(&span, |_| false).ok()) {
            self.evicted.push(evicted);
        }
        match fallen {
            Ok(span) if span.is_pun() => {
                self.reject(want, [(Mechanism::Jump, no_jump.clone())]);
                self.push(&span, wanted);
            }
            Ok(span) if want.force.is_none() => {
                self.reject(want, [(Mechanism::Jump, no_jump.clone()), (Mechanism::Pun, Reason::NoPun)]);
                self.push(&span, wanted);
            }
            Ok(span) => self.push(&span, wanted),
            Err(reason) => want.sites.iter().for_each(|site| self.refuse(*site, reason.clone())),
        }
    }

    /// Notes mechanisms that come first but do not fit.
    fn reject(&mut self, want: &Wanted, mechanisms: impl IntoIterator<Item = (Mechanism, Reason)>) {
        for (mechanism, reason) in mechanisms {
            let rejected = Rejected { mechanism, reason };
            self.plan.rejected.extend(want.sites.iter().map(|site| (*site, rejected.clone())));
        }
    }

    fn push(&mut self, span: &Span, wanted: &BTreeMap<Address, Wanted>) {
        match self.analysis.patch(span, |at| wanted.contains_key(&at)) {
            Ok(patch) => self.plan.patches.push(patch),
            Err(reason) => {
                let sites = span.insns.iter().filter_map(|(at, _)| wanted.get(&at));
                for site in sites.flat_map(|want| want.sites.clone()) {
                    self.refuse(site, reason.clone());
                }
            }
        }
    }
}
