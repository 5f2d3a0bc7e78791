//! Where the stubs go: placement by construction under the constraints of trapping interiors.
//!
//! The bytes of a jump's displacement that lie on old instruction boundaries must be trapping opcodes, and those that lie
//! in instructions that stay are what they are. So the higher bytes say in which windows of 16 MiB and 64 KiB a stub may
//! lie, the lower ones where in them. The most constrained stubs choose the areas, each new area where it serves the most
//! of those still to come; the others fill up what is there. An area is a mapping, of which a process may have so many only
//! (vm.max_map_count): the first may not take what the others share, and these share longer ones where few are left.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::iter;
use std::ops::Range;

use crate::address::Address;
use crate::decode;
use crate::isa::Isa;
use crate::plan::{Mechanism, Patch, Reason};
use crate::x86::jump::{self, Byte, Jump};
use crate::x86::mode::Mode;

/// A stub that wants a place.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    /// The patch that will jump (or be moved) to it.
    pub patch: &'a Patch,
    /// Its size in bytes.
    pub size: u32,
}

/// Room for stubs, kept over the life of a session: what is mapped already, and what may still be mapped.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Free address ranges in which new mappings may be made, sorted. Areas that are made are not taken out of them.
    pub free: Vec<Range<Address>>,
    /// Mappings of the area made so far, with what is used in them.
    pub areas: Vec<Area>,
    /// How many more of them may be made.
    pub mappings: usize,
}

/// One mapping of the area and its used parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// First address.
    pub start: Address,
    /// [`AREA_LEN`], or more where mappings are few.
    pub len: u64,
    /// Used ranges, sorted, merged.
    pub used: Vec<Range<Address>>,
    /// Whether it is still to be mapped.
    pub is_new: bool,
}

/// Size of one mapping of the area, bytes: the largest page size of any Linux ABI we know.
pub const AREA_LEN: u64 = 0x1_0000;

/// Size of one where few more may be made: as many pages as a word has bits.
const WIDE_LEN: u64 = 64 * PAGE;
/// So many mappings are few, whatever is to be placed: further modules may come.
const FEW: usize = 32;
/// What is kept free between a new area and a mapping of the program: neither should run into the other.
const GUARD: u64 = AREA_LEN;
/// The unit in which memory is touched.
pub const PAGE: u64 = 0x1000;
/// How far from its patch, and from what its instructions refer to, a stub may lie: the reach of a 32-bit displacement
/// but for more than any stub's length.
const REACH: u64 = (2 << 30) - (1 << 20);
/// Start of an unconstrained stub: a fetch block of today's processors.
const ALIGN: u64 = 16;
/// How many groups of wishes are asked about a new area: a module of 100 MB has thousands.
const MAX_SAMPLE: usize = 512;
/// A stretch in which the displacement's highest byte is the same.
const WINDOW: u64 = 1 << 24;

/// What is written over the start of `patch` so that it is served at `stub`: the jump or the breakpoint, without what a
/// jump leaves of [`Patch::overwritten`]. `None` if the stub is out of reach or an old boundary would not trap.
#[must_use]
pub fn patch_bytes(isa: Isa, patch: &Patch, stub: Address) -> Option<Vec<u8>> {
    match (isa, patch.mechanism) {
        (Isa::X86_64 | Isa::I386, Mechanism::Pun) if patch.island.is_some() => {
            let at = patch.island.as_ref().map(|island| island.at)?;
            jump::encode_short(patch.start, at).map(|bytes| bytes.to_vec())
        }
        (Isa::X86_64 | Isa::I386, Mechanism::Jump | Mechanism::Pun) => {
            let mut bytes = jump_of(isa, patch).encode(stub)?;
            // Behind the jump itself every byte is free, and each old boundary there traps.
            bytes.resize(patch.overwritten.len().max(bytes.len()), Mode::of(isa).interior.any());
            Some(bytes)
        }
        (_, Mechanism::Trap) => Some(isa.abi().breakpoint.to_vec()),
        _ => None,
    }
}

/// What is written over the island of `patch`, if it has one; `None` also if the stub is out of its reach.
#[must_use]
pub fn island_bytes(isa: Isa, patch: &Patch, stub: Address) -> Option<Vec<u8>> {
    match isa {
        Isa::X86_64 | Isa::I386 => patch.island.as_ref().and_then(|_| jump_of(isa, patch).encode(stub)),
        _ => None,
    }
}

/// The jump of a patch, and where it may lead.
fn jump_of(isa: Isa, patch: &Patch) -> Jump {
    if let Some(island) = &patch.island {
        return Jump::new(isa, island.at, jump::LEN, iter::empty(), (jump::LEN, &[]));
    }
    let written = patch.written();
    let interior = patch.interior().into_iter().map(u64::from);
    let tail = patch.overwritten.get(written..).unwrap_or_default();
    Jump::new(isa, patch.start, patch.overwritten.len(), interior, (written, tail))
}

impl Room {
    /// Places all demands, marking their room as used and adding areas (`is_new`) where needed.
    ///
    /// One result per demand: the address.
    ///
    /// # Errors
    /// [`Reason::NoRoom`] where nothing is free within reach, [`Reason::Mappings`] where it would take one mapping more.
    pub fn place(&mut self, isa: Isa, demands: &[Demand<'_>]) -> Vec<Result<Address, Reason>> {
        let mut wishes: Vec<Wish> =
            demands.iter().enumerate().map(|(index, demand)| Wish::new(isa, index, demand)).collect();
        wishes.sort_by_key(|wish| (Reverse(wish.rank()), wish.from, wish.index));
        let mut places = vec![Err(Reason::NoRoom); demands.len()];
        let mut search = Search::new(&self.free, &self.areas, self.mappings, &wishes);
        let mut taken = Vec::new();
        for (number, wish) in wishes.iter().enumerate() {
            let place = search.place(wish, &wishes[number..]);
            taken
                .extend(place.iter().map(|(area, at)| (*area, at.span(u64::from(demands[wish.index].size)))));
            places[wish.index] = place.map(|(_, at)| at);
        }
        self.mappings = search.mappings;
        for open in search.areas.iter().skip(self.areas.len()) {
            self.areas.push(Area { start: open.start, len: open.len, used: Vec::new(), is_new: true });
        }
        for (area, range) in taken {
            self.areas[area].used.push(range);
        }
        self.areas.iter_mut().for_each(|area| merge(&mut area.used));
        places
    }

    /// How many pages its stubs have touched.
    #[must_use]
    pub fn pages(&self) -> usize {
        let used = self.areas.iter().flat_map(|area| &area.used);
        let pages = used.flat_map(|used| used.start.0 / PAGE..used.end.0.div_ceil(PAGE));
        pages.collect::<HashSet<_>>().len()
    }

    /// Gives `range` back.
    pub fn release(&mut self, range: Range<Address>) {
        for area in &mut self.areas {
            area.used = area.used.iter().flat_map(|used| cut(used, &range)).collect();
        }
    }
}

/// What of `range` lies outside `hole`.
fn cut(range: &Range<Address>, hole: &Range<Address>) -> impl Iterator<Item = Range<Address>> + use<> {
    let before = range.start..range.end.min(hole.start);
    let behind = range.start.max(hole.end)..range.end;
    // Where they do not meet, one of the two is the whole range and the other is empty.
    [before, behind].into_iter().filter(|part| part.start < part.end)
}

fn merge(ranges: &mut Vec<Range<Address>>) {
    ranges.sort_by_key(|range| (range.start, range.end));
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
}

/// A demand as the search needs it.
struct Wish {
    index: usize,
    from: Address,
    /// Where its jump may lead: anywhere, if it is a breakpoint.
    jump: Jump,
    size: u64,
    /// Where the whole stub must lie.
    reach: Range<Address>,
}

impl Wish {
    fn new(isa: Isa, index: usize, demand: &Demand<'_>) -> Self {
        let patch = demand.patch;
        let anywhere = Jump::new(isa, patch.start, jump::LEN, iter::empty(), (jump::LEN, &[]));
        let jump = if patch.mechanism == Mechanism::Trap { anywhere } else { jump_of(isa, patch) };
        let references =
            patch.displaced.iter().filter_map(|insn| decode::reference(isa, insn.address, &insn.bytes));
        let reach = references
            .chain([patch.start, patch.resume()])
            .map(|to| around(isa, to))
            .reduce(|one, other| one.start.max(other.start)..one.end.min(other.end));
        // An empty stub would share its address with another one.
        let size = u64::from(demand.size.max(1));
        Self { index, from: patch.start, jump, size, reach: reach.unwrap_or_default() }
    }

    /// Most constrained first: the higher bytes choose among areas, the lower ones among places in them.
    fn rank(&self) -> u32 {
        const TRAPPING: [u32; 4] = [5, 10, 90, 100];
        let weight = |(place, byte): (usize, &Byte)| match byte {
            Byte::Any => 0,
            Byte::Trapping => TRAPPING[place],
            Byte::Fixed(_) => 1000 + TRAPPING[place],
        };
        self.jump.displacement.iter().enumerate().map(weight).sum()
    }

    /// Whether it fits some areas only.
    fn is_choosy(&self) -> bool {
        self.jump.displacement[2..].iter().any(|byte| *byte != Byte::Any)
    }

    /// Whether its place lies in one window of 64 KiB, so that there is not much to choose.
    fn is_narrow(&self) -> bool {
        self.jump.displacement[2..].iter().all(|byte| matches!(byte, Byte::Fixed(_)))
    }

    /// The bytes that choose among areas, and about where it is from: wishes that agree fit the same areas.
    fn group(&self) -> (u64, [Byte; 4]) {
        (self.from.0 / AREA_LEN, self.jump.high().displacement)
    }

    /// The lowest place from `least` on that the jump allows.
    fn next(&self, least: Address) -> Option<Address> {
        let mut at = least;
        // A landing behind an alignment differs from it only where a window ends.
        for _ in 0..8 {
            let landing = self.jump.landing(at)?;
            if self.jump.displacement[0] != Byte::Any || landing.0.is_multiple_of(ALIGN) {
                return Some(landing);
            }
            at = Address(landing.0.checked_next_multiple_of(ALIGN)?);
        }
        None
    }

    /// The lowest place in `gap`.
    fn fit(&self, gap: &Range<Address>) -> Option<Address> {
        let end = gap.end.min(self.reach.end);
        let at = self.next(gap.start.max(self.reach.start))?;
        (at < end && end - at >= self.size).then_some(at)
    }

    /// Whether the bytes that choose among areas allow this one.
    fn is_served_by(&self, area: &Range<Address>) -> bool {
        let landing = self.jump.high().landing(area.start.max(self.reach.start));
        landing.is_some_and(|at| at < area.end.min(self.reach.end))
    }
}

/// Whether a stub for `jump` at `from` fits anywhere in `free`.
pub(crate) fn has_place(isa: Isa, from: Address, jump: &Jump, free: &[Range<Address>]) -> bool {
    let reach = around(isa, from);
    free.iter()
        .filter_map(|range| usable(range, &reach))
        .any(|range| jump.landing(range.start).is_some_and(|at| at < range.end))
}

/// Whether a stub fits anywhere within reach of `from`.
pub(crate) fn is_near(isa: Isa, from: Address, free: &[Range<Address>]) -> bool {
    let reach = around(isa, from);
    free.iter().any(|range| usable(range, &reach).is_some())
}

/// What of a free range may be used, within `reach`.
fn usable(free: &Range<Address>, reach: &Range<Address>) -> Option<Range<Address>> {
    let start = Address(free.start.0.saturating_add(GUARD)).max(reach.start);
    let end = Address(free.end.0.saturating_sub(GUARD)).min(reach.end);
    (start < end).then_some(start..end)
}

/// From where `to` can be referred to: of the 4 GiB of i386, from everywhere.
fn around(isa: Isa, to: Address) -> Range<Address> {
    match isa {
        Isa::X86_64 => Address(to.0.saturating_sub(REACH))..Address(to.0.saturating_add(REACH)),
        _ => Address(0)..Address(isa.abi().address_end),
    }
}

/// An area during the search.
struct Open {
    start: Address,
    len: u64,
    /// Free ranges large enough for a stub, sorted.
    gaps: Vec<Range<Address>>,
    /// Size of the largest gap: most areas are full of gaps that are too small.
    largest: u64,
    /// Which of its pages are in use: bit n for the page at `start + n * PAGE`.
    warm: u64,
}

impl Open {
    fn new(start: Address, len: u64) -> Self {
        Self { start, len, gaps: vec![start.span(len)], largest: len, warm: 0 }
    }

    /// With what is used of an area: there may be many of both, so one walk has to do.
    fn of(area: &Area, smallest: u64) -> Self {
        let mut open = Self::new(area.start, area.len);
        open.gaps.clear();
        let mut next = area.start;
        for used in area.used.iter().filter(|used| used.start < used.end) {
            open.warm |= open.pages(used);
            open.gaps.push(next..used.start.max(next));
            next = next.max(used.end);
        }
        open.gaps.push(next..next.max(area.start + area.len));
        open.gaps.retain(|gap| gap.end - gap.start >= smallest);
        open.measure();
        open
    }

    fn range(&self) -> Range<Address> {
        self.start.span(self.len)
    }

    fn pages(&self, range: &Range<Address>) -> u64 {
        let first = (range.start - self.start) / PAGE;
        let last = (range.end.0 - 1).saturating_sub(self.start.0) / PAGE;
        (first..=last.min(63)).fold(0, |pages, page| pages | 1 << page)
    }

    /// Takes a part of one of the gaps.
    fn take(&mut self, range: &Range<Address>, smallest: u64) {
        self.warm |= self.pages(range);
        let Some(index) = self.gaps.partition_point(|gap| gap.start <= range.start).checked_sub(1) else {
            return;
        };
        let gap = self.gaps[index].clone();
        let parts = cut(&gap, range).filter(|part| part.end - part.start >= smallest);
        self.gaps.splice(index..=index, parts);
        if gap.end - gap.start == self.largest {
            self.measure();
        }
    }

    fn measure(&mut self) {
        self.largest = self.gaps.iter().map(|gap| gap.end - gap.start).max().unwrap_or(0);
    }

    /// Whether some gap is large enough.
    fn has_gap(&self, wish: &Wish) -> bool {
        self.largest >= wish.size
    }

    /// A place that touches no new page.
    fn warm_fit(&self, wish: &Wish) -> Option<Address> {
        self.gaps.iter().filter(|gap| gap.end - gap.start >= wish.size).find_map(|gap| {
            let mut rest = gap.clone();
            loop {
                let at = wish.fit(&rest)?;
                let cold = self.pages(&at.span(wish.size)) & !self.warm;
                if cold == 0 {
                    return Some(at);
                }
                // On behind the last cold page of this place.
                let page = u64::from(63 - cold.leading_zeros());
                rest.start = self.start + (page + 1) * PAGE;
                if rest.start >= rest.end {
                    return None;
                }
            }
        })
    }

    fn cold_fit(&self, wish: &Wish) -> Option<Address> {
        self.gaps.iter().filter(|gap| gap.end - gap.start >= wish.size).find_map(|gap| wish.fit(gap))
    }
}

/// The search for places of one set of demands.
struct Search<'a> {
    free: &'a [Range<Address>],
    areas: Vec<Open>,
    /// The areas by their address.
    by_start: BTreeMap<Address, usize>,
    /// How many more may be made.
    mappings: usize,
    /// How many of them are for stubs that can share one.
    reserve: usize,
    smallest: u64,
    /// Groups for which no further area can be made: `free` only shrinks.
    hopeless: HashSet<(u64, [Byte; 4])>,
}

impl<'a> Search<'a> {
    fn new(free: &'a [Range<Address>], areas: &[Area], mappings: usize, wishes: &[Wish]) -> Self {
        let smallest = wishes.iter().map(|wish| wish.size).min().unwrap_or(1);
        let by_start = areas.iter().enumerate().map(|(index, area)| (area.start, index)).collect();
        let areas = areas.iter().map(|area| Open::of(area, smallest)).collect();
        let reserve = reserve(mappings, wishes);
        Self { free, areas, by_start, mappings, reserve, smallest, hopeless: HashSet::new() }
    }

    fn place(&mut self, wish: &Wish, remaining: &[Wish]) -> Result<(usize, Address), Reason> {
        let (index, at) = match self.open_fit(wish) {
            Some(found) => found,
            None => self.new_fit(wish, remaining)?,
        };
        self.areas[index].take(&at.span(wish.size), self.smallest);
        Ok((index, at))
    }

    fn open_fit(&self, wish: &Wish) -> Option<(usize, Address)> {
        if wish.is_narrow() {
            return self.windows(wish).find_map(|window| self.fit_in(wish, window));
        }
        let fitting = |fit: fn(&Open, &Wish) -> Option<Address>| {
            let roomy = self.areas.iter().enumerate().filter(|(_, open)| open.has_gap(wish));
            let usable = roomy.filter(|(_, open)| wish.is_served_by(&open.range()));
            usable.filter_map(|(index, open)| Some((index, fit(open, wish)?))).next()
        };
        fitting(Open::warm_fit).or_else(|| fitting(Open::cold_fit))
    }

    /// A place for a narrow wish in the areas that touch `window`.
    fn fit_in(&self, wish: &Wish, window: Range<Address>) -> Option<(usize, Address)> {
        let first = Address(window.start.0.saturating_sub(WIDE_LEN - 1));
        let near = self.by_start.range(first..window.end);
        near.filter_map(|(_, index)| Some((*index, self.areas[*index].cold_fit(wish)?))).next()
    }

    /// Where a narrow wish may lie, in what is free.
    fn windows<'w>(&'w self, wish: &'w Wish) -> impl Iterator<Item = Range<Address>> + 'w {
        let usable = self.free.iter().filter_map(|free| usable(free, &wish.reach));
        usable.filter_map(|range| {
            let first = wish.jump.landing(range.start).filter(|first| *first < range.end)?;
            Some(first..range.end.min(Address(first.0.saturating_add(AREA_LEN))))
        })
    }

    fn new_fit(&mut self, wish: &Wish, remaining: &[Wish]) -> Result<(usize, Address), Reason> {
        if self.mappings <= if wish.is_choosy() { self.reserve } else { 0 } {
            // No search for what may not be made.
            let reason = if self.windows(wish).next().is_some() { Reason::Mappings } else { Reason::NoRoom };
            return Err(reason);
        }
        let open = if wish.is_narrow() {
            self.narrow_area(wish).map(|start| Open::new(start, AREA_LEN))
        } else if self.hopeless.contains(&wish.group()) {
            None
        } else {
            let lens = [len_for(self.mappings, remaining), AREA_LEN];
            let found = lens
                .into_iter()
                .find_map(|len| self.new_area(wish, len, remaining).map(|start| Open::new(start, len)));
            if found.is_none() {
                self.hopeless.insert(wish.group());
            }
            found
        };
        let open = open.ok_or(Reason::NoRoom)?;
        let at = open.cold_fit(wish).ok_or(Reason::NoRoom)?;
        self.mappings -= 1;
        self.by_start.insert(open.start, self.areas.len());
        self.areas.push(open);
        Ok((self.areas.len() - 1, at))
    }

    /// A new area around the first place of a narrow wish.
    fn narrow_area(&self, wish: &Wish) -> Option<Address> {
        self.windows(wish).find_map(|window| {
            let at = wish.fit(&(window.start..Address(window.end.0.saturating_add(wish.size))))?;
            let aligned = Address(at.0 / AREA_LEN * AREA_LEN);
            // A stub over the end of one area gets one that begins with its page.
            let candidates = [aligned, Address(at.0 / PAGE * PAGE)];
            candidates
                .into_iter()
                .find(|start| self.may_begin(*start) && wish.fit(&start.span(AREA_LEN)).is_some())
        })
    }

    /// Whether an area of the usual length may be made at `start`.
    fn may_begin(&self, start: Address) -> bool {
        let area = start.span(AREA_LEN);
        let is_inside = |free: &Range<Address>| {
            free.start.0.saturating_add(GUARD) <= area.start.0
                && area.end.0 <= free.end.0.saturating_sub(GUARD)
        };
        self.is_unused(&area) && self.free.iter().any(is_inside)
    }

    /// In the first region that has an area for the wish, the one that serves most of the remaining wishes; of equals
    /// the nearest.
    fn new_area(&self, wish: &Wish, len: u64, remaining: &[Wish]) -> Option<Address> {
        let mut groups: BTreeMap<(u64, [Byte; 4]), (usize, &Wish)> = BTreeMap::new();
        for other in remaining.iter().filter(|other| other.is_choosy()) {
            groups.entry(other.group()).or_insert((0, other)).0 += 1;
        }
        let sample: Vec<_> = groups.values().step_by(groups.len() / MAX_SAMPLE + 1).collect();
        let score = |start: Address| -> usize {
            let area = start.span(len);
            sample.iter().filter(|(_, other)| other.is_served_by(&area)).map(|(count, _)| count).sum()
        };
        self.regions(wish).into_iter().find_map(|region| {
            let first = region.start.0.checked_next_multiple_of(AREA_LEN)?;
            (first..region.end.0)
                .step_by(usize::try_from(AREA_LEN).unwrap_or(usize::MAX))
                .map(Address)
                .filter(|start| region.end - *start >= len && self.is_unused(&start.span(len)))
                .filter(|start| wish.fit(&start.span(len)).is_some())
                .max_by_key(|start| (score(*start), Reverse(start.0.abs_diff(wish.from.0))))
        })
    }

    fn is_unused(&self, range: &Range<Address>) -> bool {
        let near = Address(range.start.0.saturating_sub(WIDE_LEN - 1))..range.end;
        self.by_start.range(near).all(|(_, index)| self.areas[*index].range().end <= range.start)
    }

    /// Free stretches of at most [`WINDOW`] bytes, in the order in which they should be tried.
    fn regions(&self, wish: &Wish) -> Vec<Range<Address>> {
        let usable = self.free.iter().filter_map(|free| usable(free, &wish.reach));
        let tops = wish.jump.tops();
        if !tops.is_empty() {
            let usable: Vec<_> = usable.collect();
            let windows = tops.iter().map(|top| wish.jump.window(*top).span(WINDOW));
            return windows.flat_map(|window| within(&usable, &window)).collect();
        }
        let mut nearest: Vec<_> = usable.flat_map(|range| windows(&range, wish.from)).collect();
        nearest.sort_by_key(|range| (distance(range, wish.from), range.start));
        nearest
    }
}

/// How many of the mappings that may still be made the choosy wishes have to leave to those that can share one: what these
/// fill and some for later modules; at most half.
fn reserve(mappings: usize, wishes: &[Wish]) -> usize {
    let needed = len_of(wishes).div_ceil(len_for(mappings, wishes));
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    needed.saturating_add(mappings.div_ceil(8)).min(mappings.div_ceil(2))
}

/// How long new areas are to be, so that so many have room for all wishes, and some are left.
fn len_for(mappings: usize, wishes: &[Wish]) -> u64 {
    let needed = usize::try_from(len_of(wishes).div_ceil(AREA_LEN)).unwrap_or(usize::MAX);
    if needed.saturating_add(FEW) <= mappings / 2 { AREA_LEN } else { WIDE_LEN }
}

/// How much those of `wishes` fill that are not choosy.
fn len_of(wishes: &[Wish]) -> u64 {
    let sharing = wishes.iter().filter(|wish| !wish.is_choosy());
    sharing.map(|wish| wish.size.next_multiple_of(ALIGN)).sum()
}

/// The parts of `ranges` in `window`.
fn within(ranges: &[Range<Address>], window: &Range<Address>) -> Vec<Range<Address>> {
    ranges
        .iter()
        .map(|range| range.start.max(window.start)..range.end.min(window.end))
        .filter(|part| part.start < part.end)
        .collect()
}

/// `range` in stretches of at most [`WINDOW`] bytes, cut where that makes those near `at` whole.
fn windows(range: &Range<Address>, at: Address) -> impl Iterator<Item = Range<Address>> + use<> {
    let middle = at.max(range.start).min(range.end);
    let (below, above) = (range.start..middle, middle..range.end);
    let step = usize::try_from(WINDOW).unwrap_or(usize::MAX);
    let down = (0..below.end - below.start).step_by(step).map(move |offset| {
        let end = Address(below.end.0 - offset);
        below.start.max(Address(end.0.saturating_sub(WINDOW)))..end
    });
    let up = (0..above.end - above.start).step_by(step).map(move |offset| {
        let start = above.start + offset;
        start..above.end.min(start + WINDOW)
    });
    down.chain(up)
}

fn distance(range: &Range<Address>, at: Address) -> u64 {
    if at < range.start { range.start - at } else { at.0.saturating_sub(range.end.0) }
}
