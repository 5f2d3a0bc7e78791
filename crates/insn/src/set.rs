//! Planning all sites of a module together.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::address::Address;
use crate::code::{Code, Outline};
use crate::decode::{self, Insn};
use crate::isa::Isa;
use crate::plan::{Mechanism, Patch, Plan, Reason, Refusal, Rejected};
use crate::sweep::{self, Function, Reached};

/// Everything about a module's code that planning asks for; made once per module, used for every plan.
#[derive(Debug)]
pub struct Analysis<'a> {
    pub(crate) isa: Isa,
    pub(crate) code: Vec<Code<'a>>,
    /// Sorted by start.
    pub(crate) functions: Vec<Function>,
    /// For each function the highest end of those up to it: bounds the search backwards for one that contains an address.
    furthest: Vec<Address>,
    pub(crate) reached: Reached,
    pub(crate) refused: Vec<Range<Address>>,
    pub(crate) shadow_stack: bool,
}

/// How many functions that begin before an address are asked whether they contain it: nesting is shallow.
const MAX_NESTING: usize = 64;

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
        let (functions, reached) = sweep::sweep(isa, &code, &ranges, &data, progress);
        outline.pointed_at.iter().for_each(|at| reached.targets.set(*at));
        let furthest = functions
            .iter()
            .scan(Address(0), |furthest, function| {
                *furthest = function.range.end.max(*furthest);
                Some(*furthest)
            })
            .collect();
        Self { isa, code, functions, furthest, reached, refused: outline.refused.clone(), shadow_stack }
    }

    /// Plans `sites` (any order, duplicates allowed) together. `force` pins the mechanism of some sites.
    ///
    /// Greedy from the lowest address up: a site that lies in the span of an earlier one's jump is served by that, every
    /// other gets a patch of its own. An earlier jump never costs a later site its jump, so no choice is regretted.
    #[must_use]
    pub fn plan(&self, sites: &[Address], force: &HashMap<Address, Mechanism>) -> Plan {
        let mut planner = Planner {
            analysis: self,
            walked: HashMap::new(),
            wanted: BTreeMap::new(),
            plan: Plan::default(),
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

    fn inspect(&self, at: Address) -> Option<Insn> {
        decode::inspect(self.isa, at, self.bytes_from(at)?)
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

/// Sorted by start, without empty ones and those that overlap an earlier one.
fn disjoint<'a>(stretches: &[Code<'a>]) -> Vec<Code<'a>> {
    let mut sorted: Vec<Code<'a>> = stretches
        .iter()
        .filter(|code| !code.bytes.is_empty() && code.start.0.checked_add(code.bytes.len() as u64).is_some())
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
struct Wanted {
    sites: Vec<Address>,
    force: Option<Mechanism>,
}

/// A plan in the making.
struct Planner<'p, 'a> {
    analysis: &'p Analysis<'a>,
    /// How far each function (by its start and end) has been decoded: sites come in order.
    walked: HashMap<(Address, Address), Address>,
    wanted: BTreeMap<Address, Wanted>,
    plan: Plan,
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
            Ok(at) => {
                if at != site {
                    self.plan.moved.push((site, at));
                }
                let wanted = self.wanted.entry(at).or_default();
                wanted.sites.push(site);
                // Of two that ask for different mechanisms the trap is the one that always works.
                wanted.force = wanted.force.max(force);
            }
            Err(reason) => self.refuse(site, reason),
        }
    }

    fn start_of(&mut self, site: Address) -> Result<Address, Reason> {
        self.analysis.bytes_from(site).ok_or(Reason::OutsideCode)?;
        self.check_boundary(site)?;
        let insn = self.analysis.inspect(site).ok_or(Reason::Undecodable)?;
        let behind = site + insn.len as u64;
        if insn.is_landing_pad && self.may_serve(site, behind) { Ok(behind) } else { Ok(site) }
    }

    /// Whether whoever runs the instruction at `behind` came from `site` before it, and the other way round.
    fn may_serve(&self, site: Address, behind: Address) -> bool {
        let reached = &self.analysis.reached;
        let is_same_function = match self.analysis.function_at(site) {
            Some(function) => behind < function.range.end,
            None => true,
        };
        is_same_function
            && !reached.targets.contains(behind)
            && !reached.returns.contains(behind)
            && self.analysis.inspect(behind).is_some()
    }

    /// Decodes the site's function from its start to see whether an instruction begins at the site.
    fn check_boundary(&mut self, site: Address) -> Result<(), Reason> {
        let Some(function) = self.analysis.function_at(site) else { return Ok(()) };
        if let Some(at) = function.first_bad.filter(|bad| site > *bad) {
            // Behind the gap the decoding is a guess, unless the program itself goes there.
            let is_reached = self.analysis.reached.targets.contains(site);
            return if is_reached { Ok(()) } else { Err(Reason::FunctionUndecodable { at }) };
        }
        let key = (function.range.start, function.range.end);
        let from = self.walked.get(&key).copied().unwrap_or(function.range.start);
        let bytes = self.analysis.bytes_from(from).ok_or(Reason::OutsideCode)?;
        let at = decode::boundary(self.analysis.isa, from, bytes, site).ok_or(Reason::Undecodable)?;
        self.walked.insert(key, at);
        if at == site { Ok(()) } else { Err(Reason::InsideInstruction { start: at }) }
    }

    /// Gives each wanted instruction to a patch.
    fn choose(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        for (&at, want) in &wanted {
            let last = self.plan.patches.last().filter(|patch| at < patch.end());
            if let Some(patch) = last {
                // Served already, unless two overlapping functions disagree about where instructions begin.
                if !patch.displaced.iter().any(|insn| insn.address == at) {
                    want.sites.iter().for_each(|site| self.refuse(*site, Reason::Overlap));
                }
                continue;
            }
            match self.first_fit(at, want, &wanted) {
                Ok(mut patch) => {
                    for insn in &mut patch.displaced {
                        insn.is_site = wanted.contains_key(&insn.address);
                    }
                    self.plan.patches.push(patch);
                }
                Err(reason) => want.sites.iter().for_each(|site| self.refuse(*site, reason.clone())),
            }
        }
        self.plan.refused.sort_by_key(|refusal| refusal.address);
        self.plan.rejected.sort_by_key(|rejected| rejected.0);
    }

    fn first_fit(
        &mut self,
        at: Address,
        want: &Wanted,
        all: &BTreeMap<Address, Wanted>,
    ) -> Result<Patch, Reason> {
        let function = self.analysis.function_at(at);
        let jump = || {
            let patch = self.analysis.patch(at, function, Mechanism::Jump)?;
            let covers_forced_trap =
                patch.displaced.iter().skip(1).any(|insn| {
                    all.get(&insn.address).is_some_and(|other| other.force == Some(Mechanism::Trap))
                });
            if covers_forced_trap { Err(Reason::Overlap) } else { Ok(patch) }
        };
        match want.force {
            Some(Mechanism::Jump) => jump(),
            Some(mechanism) => self.analysis.patch(at, function, mechanism),
            None => jump().or_else(|reason| {
                let patch = self.analysis.patch(at, function, Mechanism::Trap)?;
                for site in &want.sites {
                    let rejected = Rejected { mechanism: Mechanism::Jump, reason: reason.clone() };
                    self.plan.rejected.push((*site, rejected));
                }
                Ok(patch)
            }),
        }
    }
}
