//! A set of code addresses: one bit for each byte of code.

use std::iter;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::address::Address;
use crate::code::Code;

/// Addresses in the code it was made for; others are ignored. Filled by several threads at once.
#[derive(Debug)]
pub(crate) struct Marks {
    stretches: Vec<Stretch>,
}

#[derive(Debug)]
struct Stretch {
    start: Address,
    len: u64,
    bits: Vec<AtomicU64>,
}

impl Marks {
    /// No marks; `code` is sorted by start.
    pub(crate) fn new(code: &[Code<'_>]) -> Self {
        let stretch = |code: &Code<'_>| Stretch {
            start: code.start,
            len: code.bytes.len() as u64,
            bits: (0..code.bytes.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        };
        Self { stretches: code.iter().map(stretch).collect() }
    }

    /// The stretch that holds `at`, and how far in.
    fn place(&self, at: Address) -> Option<(&Stretch, u64)> {
        let index = self.stretches.partition_point(|stretch| stretch.start <= at).checked_sub(1)?;
        let stretch = &self.stretches[index];
        let offset = at - stretch.start;
        (offset < stretch.len).then_some((stretch, offset))
    }

    /// Whether `at` is in the code.
    pub(crate) fn covers(&self, at: Address) -> bool {
        self.place(at).is_some()
    }

    /// Adds `at`.
    pub(crate) fn set(&self, at: Address) {
        let Some((stretch, offset)) = self.place(at) else { return };
        let Some(word) = stretch.word(offset) else { return };
        let bit = 1 << (offset % 64);
        // Most targets are reached more than once, and a load is cheaper than a locked operation.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether `at` is in the set.
    pub(crate) fn contains(&self, at: Address) -> bool {
        self.place(at).is_some_and(|(stretch, offset)| stretch.from(offset) & 1 != 0)
    }

    /// All in a range, in order.
    pub(crate) fn all_in(&self, range: Range<Address>) -> impl Iterator<Item = Address> + '_ {
        let mut rest = range;
        iter::from_fn(move || {
            let first = self.first_in(rest.clone())?;
            rest.start = first + 1;
            Some(first)
        })
    }

    /// The first one in a range that is short, or in the code for the most part.
    pub(crate) fn first_in(&self, range: Range<Address>) -> Option<Address> {
        let mut at = range.start;
        while at < range.end {
            let Some((stretch, offset)) = self.place(at) else {
                at += 1;
                continue;
            };
            let marks = stretch.from(offset);
            let known = (64 - offset % 64).min(stretch.len - offset);
            if marks != 0 || range.end - at <= known {
                let first = at + u64::from(marks.trailing_zeros());
                return (marks != 0 && first < range.end).then_some(first);
            }
            at += known;
        }
        None
    }
}

impl Stretch {
    /// The word that holds the bit of the byte at `offset`.
    fn word(&self, offset: u64) -> Option<&AtomicU64> {
        self.bits.get(usize::try_from(offset / 64).ok()?)
    }

    /// The marks of the bytes from `offset` on that share a word with it, the first in the lowest bit.
    fn from(&self, offset: u64) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Relaxed) >> (offset % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mark_is_found_over_words_and_stretches() {
        let code = [
            Code { start: Address(0x1000), bytes: &[0; 100] },
            Code { start: Address(0x1064), bytes: &[0; 70] },
            Code { start: Address(0x2000), bytes: &[0; 10] },
        ];
        let marks = Marks::new(&code);
        let first = |from, to| marks.first_in(Address(from)..Address(to)).map(|at| at.0);
        assert_eq!(first(0x1000, 0x2010), None);
        for at in [0x1003, 0x103f, 0x1040, 0x1064, 0x10a9, 0x2000, 0x2009] {
            marks.set(Address(at));
        }
        marks.set(Address(0x10aa)); // behind the second stretch
        let all = marks.all_in(Address(0x0ff0)..Address(0x2010));
        let found: Vec<u64> = all.map(|at| at.0).collect();
        assert_eq!(found, [0x1003, 0x103f, 0x1040, 0x1064, 0x10a9, 0x2000, 0x2009]);
        assert_eq!((first(0x1004, 0x103f), first(0x1004, 0x1040)), (None, Some(0x103f)));
        assert!(marks.contains(Address(0x1064)) && !marks.contains(Address(0x1065)));
        assert!(marks.covers(Address(0x10a9)) && !marks.covers(Address(0x10aa)));
    }
}
