//! The sweep over a module: every function and every gap between functions decoded once, by all processors.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::address::Address;
use crate::code::{Code, Outline};
use crate::decode::{self, Findings, Flow};
use crate::isa::Isa;
use crate::marks::Marks;
use crate::overlaps;
use crate::pieces;

/// A function and whether its code can be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its addresses.
    pub(crate) range: Range<Address>,
    /// The first place that is not an instruction of it.
    pub(crate) first_bad: Option<Address>,
    /// Whether it begins or ends a hardware transaction.
    pub(crate) has_transaction: bool,
}

/// What the module's code and data say about where control may arrive.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Targets of branches, taken addresses, entries of jump tables, function starts.
    pub(crate) targets: Marks,
    /// Return addresses of calls and system calls.
    pub(crate) returns: Marks,
    /// What code reads or writes at an address that it names.
    pub(crate) data: Marks,
}

/// Code that is decoded from its start on its own.
#[derive(Clone, Debug)]
struct Unit {
    range: Range<Address>,
    function: Option<usize>,
}

/// A `lea` of what may be a table of branch targets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Table {
    at: Address,
    user_start: Address,
    user_end: Address,
}

/// Entries read of one table: far above what compilers make, far below what a hostile file could cost.
const MAX_TABLE: u64 = 1 << 14;
/// Overlapping functions are decoded separately; a hostile file must not make that quadratic.
const MAX_OVERLAP: u64 = 4;
/// How many functions that begin before an address are asked whether they contain it: nesting is shallow.
pub(crate) const MAX_NESTING: usize = 64;

/// Sweeps `code` (sorted, not overlapping). `functions` are sorted by start; the answer has those that begin in `code`, but for
/// those that begin inside an instruction of another. Of the `outline` it takes what leads into code.
pub(crate) fn sweep(
    isa: Isa,
    code: &[Code<'_>],
    functions: &[Range<Address>],
    data: &[Code<'_>],
    outline: &Outline<'_>,
    progress: &mut dyn FnMut(u64),
) -> (Vec<Function>, Reached) {
    let (mut functions, units) = divide(code, functions);
    let reached = Reached { targets: Marks::new(code), returns: Marks::new(code), data: Marks::new(code) };
    outline.pointed_at.iter().for_each(|at| reached.targets.set(*at));
    for function in &functions {
        reached.targets.set(function.range.start);
    }
    let module = Module { isa, code, data, got: outline.got, units: &units, reached: &reached };
    let found = module.run(progress);
    for (index, at) in found.bad {
        functions[index].first_bad.get_or_insert(at);
    }
    found.transactions.iter().for_each(|index| functions[*index].has_transaction = true);
    module.read_tables(found.tables);
    module.mark_guesses([&outline.may_point_at[..], &found.distances].concat(), &functions);
    (overlaps::settle(isa, code, functions), reached)
}

/// The part of `bytes`-holding `stretches` from `at` on; they are sorted by start.
pub(crate) fn bytes_from<'a>(stretches: &[Code<'a>], at: Address) -> Option<&'a [u8]> {
    let index = stretches.partition_point(|stretch| stretch.start <= at).checked_sub(1)?;
    stretches[index].from(at)
}

/// Functions as they are decoded, and the units: each function, and each gap that no function covers.
fn divide(code: &[Code<'_>], ranges: &[Range<Address>]) -> (Vec<Function>, Vec<Unit>) {
    let total: u64 = code.iter().map(|code| code.bytes.len() as u64).sum();
    let mut budget = total.saturating_mul(MAX_OVERLAP);
    let (mut functions, mut units): (Vec<Function>, Vec<Unit>) = (Vec::new(), Vec::new());
    let mut ranges = ranges.iter().filter(|range| range.start < range.end).peekable();
    for stretch in code {
        let end = Address(stretch.start.0.saturating_add(stretch.bytes.len() as u64));
        let mut covered = stretch.start;
        while let Some(range) = ranges.next_if(|range| range.start < end) {
            if range.start < stretch.start || functions.last().is_some_and(|last| last.range == *range) {
                continue;
            }
            if covered < range.start {
                units.push(Unit { range: covered..range.start, function: None });
            }
            let inside = range.start..range.end.min(end);
            let len = inside.end - inside.start;
            let affordable = len <= budget;
            let first_bad = if affordable { (range.end > end).then_some(end) } else { Some(range.start) };
            if affordable {
                budget -= len;
                covered = covered.max(inside.end);
                units.push(Unit { range: inside, function: Some(functions.len()) });
            }
            functions.push(Function { range: range.clone(), first_bad, has_transaction: false });
        }
        if covered < end {
            units.push(Unit { range: covered..end, function: None });
        }
    }
    (functions, units)
}

/// What the threads share.
struct Module<'a> {
    isa: Isa,
    code: &'a [Code<'a>],
    data: &'a [Code<'a>],
    got: Option<Address>,
    units: &'a [Unit],
    reached: &'a Reached,
}

/// What one thread found, beside the marks.
#[derive(Default)]
struct Found {
    bad: Vec<(usize, Address)>,
    transactions: Vec<usize>,
    tables: Vec<Table>,
    /// Where distances from the global offset table lead.
    distances: Vec<Address>,
}

impl Module<'_> {
    fn run(&self, progress: &mut dyn FnMut(u64)) -> Found {
        let done = AtomicU64::new(0);
        let sweep = |piece: Range<usize>, found: &mut Found| {
            for unit in &self.units[piece] {
                self.unit(unit, found);
                done.fetch_add(unit.range.end - unit.range.start, Ordering::Relaxed);
            }
        };
        let pieces = pieces::divide(self.units.iter().map(|unit| unit.range.end - unit.range.start));
        let parts = pieces::work(&pieces, sweep, &mut || progress(done.load(Ordering::Relaxed)));
        progress(done.load(Ordering::Relaxed));
        let mut found = Found::default();
        for part in parts {
            found.bad.extend(part.bad);
            found.transactions.extend(part.transactions);
            found.tables.extend(part.tables);
            found.distances.extend(part.distances);
        }
        found
    }

    fn unit(&self, unit: &Unit, found: &mut Found) {
        let Some(bytes) = bytes_from(self.code, unit.range.start) else { return };
        let len = usize::try_from(unit.range.end - unit.range.start).unwrap_or(usize::MAX);
        let bytes = bytes.get(..len).unwrap_or(bytes);
        let Found { tables, distances, .. } = found;
        let mut notes = Notes { module: self, unit, tables, distances, has_transaction: false };
        let bad = decode::sweep(self.isa, unit.range.start, bytes, &mut notes);
        if notes.has_transaction {
            found.transactions.extend(unit.function);
        }
        if let (Some(function), Some(bad)) = (unit.function, bad) {
            found.bad.push((function, bad));
        }
    }

    /// Marks the entries of jump tables: 32-bit distances from the table's own start to code. No one says how long a
    /// table is; it ends where the next one begins or an entry does not lead to code. One entry must lead into the
    /// function that takes the table's address (others may lead into its cold part). Too many marks only cost coverage.
    fn read_tables(&self, mut tables: Vec<Table>) {
        tables.sort_unstable();
        tables.dedup();
        let mut groups = tables.chunk_by(|one, other| one.at == other.at).peekable();
        while let Some(users) = groups.next() {
            let at = users[0].at;
            let room = groups.peek().map_or(u64::MAX, |next| next[0].at - at).min(MAX_TABLE * 4);
            let entries = self.entries(at, room);
            if entries.iter().any(|to| is_in_one(users, *to)) {
                entries.iter().for_each(|to| self.reached.targets.set(*to));
            }
        }
    }

    /// Marks the numbers that may be addresses, but for those that lead into the middle of an instruction.
    fn mark_guesses(&self, mut guesses: Vec<Address>, functions: &[Function]) {
        guesses.retain(|to| self.reached.targets.covers(*to));
        guesses.sort_unstable();
        guesses.dedup();
        for same in guesses.chunk_by(|one, other| self.unit_of(*one) == self.unit_of(*other)) {
            let unit = self.unit_of(same[0]).map(|unit| &self.units[unit]);
            let starts = unit.and_then(|unit| self.starts(unit, functions, same));
            let is_one =
                |to: &&Address| starts.as_ref().is_none_or(|starts| starts.binary_search(to).is_ok());
            same.iter().filter(is_one).for_each(|to| self.reached.targets.set(*to));
        }
    }

    /// The only unit that `to` lies in.
    fn unit_of(&self, to: Address) -> Option<usize> {
        let behind = self.units.partition_point(|unit| unit.range.start <= to);
        let nearest = behind.saturating_sub(MAX_NESTING)..behind;
        let mut around = nearest.rev().filter(|unit| self.units[*unit].range.end > to);
        around.next().filter(|_| around.next().is_none())
    }

    /// Where the instructions of `unit` begin, if it is a function and all that is known agrees with that. Were there data
    /// between them that decode as well, code behind these would be taken for what it is not. But then code before the data
    /// leaves for elsewhere, and nothing leads to them; or it reads them; or branches come to the true instructions.
    fn starts(&self, unit: &Unit, functions: &[Function], guesses: &[Address]) -> Option<Vec<Address>> {
        functions[unit.function?].first_bad.is_none().then_some(())?;
        let Range { start, end } = unit.range.clone();
        let bytes = bytes_from(self.code, start)?;
        let starts = decode::boundaries(self.isa, start, bytes, start, Address(end.0.checked_sub(1)?))?;
        let mut targets = self.reached.targets.all_in(unit.range.clone());
        let agrees = targets.all(|to| starts.binary_search(&to).is_ok())
            && self.reached.data.first_in(unit.range.clone()).is_none()
            && self.is_connected(&starts, guesses);
        agrees.then_some(starts)
    }

    /// Whether something leads to each of the instructions at `starts`, or it is padding.
    fn is_connected(&self, starts: &[Address], guesses: &[Address]) -> bool {
        let mut has_left = false;
        let mut reader = decode::Reader::new(self.isa, self.code);
        starts.iter().all(|at| {
            let Some((insn, _)) = reader.look(*at) else { return false };
            let is_idle = has_left && insn.is_padding;
            let is_reached =
                !has_left || self.reached.targets.contains(*at) || guesses.binary_search(at).is_ok();
            has_left = insn.flow == Flow::Leaves || is_idle && !is_reached;
            is_idle || is_reached
        })
    }

    fn entries(&self, at: Address, room: u64) -> Vec<Address> {
        let Some(bytes) = bytes_from(self.data, at).or_else(|| bytes_from(self.code, at)) else {
            return Vec::new();
        };
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        bytes[..room]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|entry| at.offset(i64::from(i32::from_le_bytes(*entry))))
            .take_while(|to| self.reached.targets.covers(*to))
            .collect()
    }
}

/// Whether `to` is in the code that uses the table; users are sorted.
fn is_in_one(users: &[Table], to: Address) -> bool {
    let behind = users.partition_point(|user| user.user_start <= to);
    behind.checked_sub(1).is_some_and(|last| to < users[last].user_end)
}

/// Where the decoder's findings go.
struct Notes<'a, 'b> {
    module: &'a Module<'a>,
    unit: &'a Unit,
    tables: &'b mut Vec<Table>,
    distances: &'b mut Vec<Address>,
    has_transaction: bool,
}

impl Findings for Notes<'_, '_> {
    fn target(&mut self, to: Address) {
        self.module.reached.targets.set(to);
    }

    fn returns(&mut self, to: Address) {
        self.module.reached.returns.set(to);
    }

    fn distance_from_got(&mut self, distance: i64) {
        self.distances.extend(self.module.got.map(|got| got.offset(distance)));
    }

    fn data(&mut self, at: Address, len: u64) {
        let marks = &self.module.reached.data;
        if marks.covers(at) {
            (0..len).for_each(|offset| marks.set(at + offset));
        }
    }

    fn transaction(&mut self) {
        self.has_transaction = true;
    }

    fn table(&mut self, at: Address) {
        let has_bytes = bytes_from(self.module.data, at).or_else(|| bytes_from(self.module.code, at));
        if has_bytes.is_some() && at.0.is_multiple_of(4) {
            let Range { start, end } = self.unit.range;
            self.tables.push(Table { at, user_start: start, user_end: end });
        }
    }
}
