//! Sweeps over stretches of code: where instructions begin, what a breakpoint would make begin anew for ever, and delay slots.
//!
//! Processors without `movli.l` have no instruction that compares and stores. There a program marks an atomic sequence for the
//! kernel (gUSA: `prepare_stack_save_dsp`, arch/sh/kernel/cpu/sh3/entry.S; GCC's `-matomic-model=soft-gusa`):
//!
//! ```text
//!         mova    1f,r0
//!         mov     r15,r1
//!         mov     #-n,r15
//!         ...                     n bytes
//! 1:      mov     r1,r15
//! ```
//!
//! Whoever meets an exception in the `n` bytes is brought back to `mov #-n,r15`, also from a breakpoint: it would come there again
//! and again. In a slot that instruction itself would be at an address that the kernel makes nothing of.

use std::collections::HashSet;
use std::ops::Range;

use crate::address::Address;
use crate::exclusive::{self, Role, Step};
use crate::field::{field, signed};
use crate::isa::Order;
use crate::sh::analyze::{Branch, Kind, LEN, To, When, decode, halfword};

/// See [`crate::decode::boundaries`]: every second byte, code or data.
pub(crate) fn boundaries(at: Address, from: Address, to: Address) -> Option<Vec<Address>> {
    let first = from.0.checked_next_multiple_of(LEN as u64)?;
    at.0.is_multiple_of(LEN as u64).then(|| (first..=to.0).step_by(LEN).map(Address).collect())
}

/// See [`crate::xol::exclusive_sequences`].
pub(crate) fn exclusive_sequences(at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let steps = exclusive::steps(at, bytes, step);
    let mut found = exclusive::sequences(&steps);
    found.extend(marked_sequences(at, bytes));
    exclusive::merged(found)
}

/// A delayed branch and the instruction in its slot are one step: the latter is done on either way.
fn step(at: Address, bytes: &[u8]) -> Option<Step> {
    let kind = decode(at, bytes.get(..LEN)?)?;
    let delayed = match kind {
        Kind::Branch(Branch { is_delayed: true, .. }) => {
            bytes.get(LEN..).and_then(|rest| decode(at + LEN as u64, rest))
        }
        _ => None,
    };
    let len = if delayed.is_some() { 2 * LEN } else { LEN };
    let role = match delayed.unwrap_or(kind) {
        Kind::LoadLocked => Role::Load,
        Kind::StoreConditional => Role::Store,
        _ => Role::Other,
    };
    let (falls_through, to) = match kind {
        // The store ends it, another load begins its own; what is called or asked of the kernel is not known.
        _ if role != Role::Other => (false, None),
        Kind::Branch(Branch { to: To::Address(to), when, links: false, .. }) => {
            (when != When::Always, Some(to))
        }
        Kind::Branch(_) | Kind::Faults | Kind::Syscall => (false, None),
        _ => (true, None),
    };
    Some(Step { at, len, role, falls_through, to })
}

const SAVE_STACK: u32 = 0x61f3; // mov r15,r1
const RESTORE_STACK: u32 = 0x6f13; // mov r1,r15

/// Marked sequences without what marks them. A constant that looks like the mark is none without one of the two moves at its place.
fn marked_sequences(at: Address, bytes: &[u8]) -> impl Iterator<Item = Range<Address>> {
    let end = at + bytes.len() as u64;
    let halfword_at = move |offset: usize| bytes.get(offset..).and_then(halfword);
    (0..bytes.len()).step_by(LEN).filter_map(move |offset| {
        let here = at + offset as u64;
        let Kind::Marks { len } = decode(here, bytes.get(offset..)?)? else { return None };
        let start = here + LEN as u64;
        let behind = offset.checked_add(LEN)?.checked_add(usize::try_from(len).ok()?)?;
        let is_marked = halfword_at(behind) == Some(RESTORE_STACK)
            || offset.checked_sub(LEN).and_then(halfword_at) == Some(SAVE_STACK);
        (is_marked && start < end).then(|| start..(start + len).min(end))
    })
}

/// See [`crate::xol::delay_slot_of`]. What code before it loads as a constant is no branch, whatever it looks like.
pub(crate) fn delay_slot_of(at: Address, before: &[u8]) -> Option<Address> {
    let branch = Address(at.0.checked_sub(LEN as u64)?);
    let start = Address(at.0.checked_sub(before.len() as u64)?);
    let kind = decode(branch, before.get(before.len().checked_sub(LEN)?..)?)?;
    let is_branch = matches!(kind, Kind::Branch(Branch { is_delayed: true, .. }));
    (is_branch && !Data::of(start, before).0.contains(&branch)).then_some(branch)
}

/// See [`crate::xol::data`].
pub(crate) fn data(at: Address, bytes: &[u8]) -> Vec<Range<Address>> {
    let inside = at.span(bytes.len() as u64);
    let halfwords = Data::of(at, bytes)
        .0
        .into_iter()
        .filter(|halfword| inside.contains(halfword) && inside.contains(&(*halfword + 1)));
    exclusive::merged(halfwords.map(|at| at.span(LEN as u64)).collect())
}

/// The half-words that lie in code and are none. Whatever an instruction finds relative to itself lies behind it.
struct Data(HashSet<Address>);

impl Data {
    fn of(start: Address, bytes: &[u8]) -> Self {
        let mut data = Self(HashSet::new());
        for offset in (0..bytes.len()).step_by(LEN) {
            let here = start + offset as u64;
            let rest = bytes.get(offset..).unwrap_or_default();
            match decode(here, rest).filter(|_| !data.0.contains(&here)) {
                Some(Kind::Load { from, len, .. }) => data.add(from, len as u64),
                Some(Kind::AddressOf(to)) => {
                    let addressed = bytes.get(distance(start, to)..).unwrap_or_default();
                    // The end of a marked sequence.
                    if halfword(addressed) != Some(RESTORE_STACK) {
                        let most = bound(start, &bytes[..offset], bytes);
                        let table = Table::of(here, rest).map(|table| table.len(to, addressed, most));
                        data.add(to, table.unwrap_or_else(|| constant_len(rest)));
                    }
                }
                _ => {}
            }
        }
        data
    }

    fn add(&mut self, at: Address, len: u64) {
        self.0.extend((0..len).step_by(LEN).map(|offset| at + offset));
    }
}

fn distance(from: Address, to: Address) -> usize {
    usize::try_from(to.0.wrapping_sub(from.0)).unwrap_or(usize::MAX)
}

/// How many instructions behind a `mova` tell what its address is used for.
const NEAR: usize = 10;

fn near(bytes: &[u8]) -> impl Iterator<Item = (usize, u32)> {
    bytes.chunks_exact(LEN).take(NEAR).filter_map(halfword).enumerate()
}

/// Bytes at an address that the `mova` at the beginning of `code` computes: two words where they are loaded as floating point.
fn constant_len(code: &[u8]) -> u64 {
    let is_double = near(code).any(|(_, word)| word & 0xf0ff == 0xf009); // fmov @r0+
    if is_double { 8 } else { 4 }
}

/// A table of distances, from which `braf` takes its own: `mova`, `mov.w @(r0,Rm),Rn`, `braf Rn`, with others between.
struct Table {
    /// What the distances are from.
    base: Address,
    entry: usize,
    /// Bits of a distance with its sign.
    bits: u32,
}

impl Table {
    /// The one whose `mova` is at the beginning of `code`, at `at`: r0 is as it left it when the distance is loaded.
    fn of(at: Address, code: &[u8]) -> Option<Self> {
        let mut behind = near(code).skip(1);
        let (_, load) = behind.find(|(_, word)| loads_by_index(*word) || sets_r0(*word))?;
        let mut register = field(load, 8, 4);
        let mut bits = 8 << (load & 3);
        for (index, word) in behind.take_while(|_| loads_by_index(load)) {
            match word {
                _ if word & 0xf0ff == 0x0023 && field(word, 8, 4) == register => {
                    let base = at + (index * LEN + 4) as u64;
                    return Some(Self { base, entry: 1 << (load & 3), bits });
                }
                // extu.b, extu.w
                _ if word & 0xf00e == 0x600c && field(word, 4, 4) == register => {
                    register = field(word, 8, 4);
                    bits = 64;
                }
                _ => {}
            }
        }
        None
    }

    /// Bytes of it, when it is at `at`, where `bytes` are: of so many entries, if that is known, and as far as none leads into it.
    fn len(&self, at: Address, bytes: &[u8], most: Option<usize>) -> u64 {
        let mut end = most.map_or(bytes.len(), |most| bytes.len().min(most * self.entry));
        let mut len = 0;
        while len + self.entry <= end {
            let entry = Order::Little.number(&bytes[len..len + self.entry]);
            let to = self.base.offset(signed(entry, self.bits));
            if to > at {
                end = end.min(distance(at, to));
            }
            len += self.entry;
        }
        (len as u64).next_multiple_of(LEN as u64)
    }
}

/// How many entries the table has whose `mova` follows `before`, code from `start` on: a comparison excludes the others (`mov #n,Rm`
/// or `mov.w @(disp,PC),Rm`, `cmp/hi Rm,Rn`). `all` has constants behind `before`, too.
fn bound(start: Address, before: &[u8], all: &[u8]) -> Option<usize> {
    let mut back = before.rchunks_exact(LEN).take(2 * NEAR).enumerate();
    let (_, comparison) = back.find_map(|(index, bytes)| {
        halfword(bytes).filter(|word| word & 0xf00f == 0x3006).map(|word| (index, word))
    })?;
    let highest = back.find_map(|(index, bytes)| {
        let at = start + before.len().checked_sub(LEN * (index + 1))? as u64;
        let word = halfword(bytes).filter(|word| field(*word, 8, 4) == field(comparison, 4, 4))?;
        match (word >> 12, decode(at, bytes)?) {
            (0b1110, _) => Some(word & 0xff),
            (_, Kind::Load { from, len: 2, .. }) => all.get(distance(start, from)..).and_then(halfword),
            _ => None,
        }
    })?;
    Some(highest as usize + 1)
}

/// `mov.b`, `mov.w` or `mov.l @(r0,Rm),Rn`.
fn loads_by_index(word: u32) -> bool {
    word & 0xf00c == 0x000c && word & 3 != 3
}

/// Loads and moves to r0.
fn sets_r0(word: u32) -> bool {
    matches!(word >> 8, 0x50 | 0x60 | 0x84 | 0x85 | 0x90 | 0xc4..=0xc7 | 0xd0 | 0xe0)
}
