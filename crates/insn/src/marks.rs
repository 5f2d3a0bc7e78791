//! A set of code addresses: one bit for each byte of code.

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

    /// The word that holds the bit of `at`, and the bit.
    fn place(&self, at: Address) -> Option<(&AtomicU64, u64)> {
        let index = self.stretches.partition_point(|stretch| stretch.start <= at).checked_sub(1)?;
        let stretch = &self.stretches[index];
        let offset = at - stretch.start;
        if offset >= stretch.len {
            return None;
        }
        Some((stretch.bits.get(usize::try_from(offset / 64).ok()?)?, 1 << (offset % 64)))
    }

    /// Whether `at` is in the code.
    pub(crate) fn covers(&self, at: Address) -> bool {
        self.place(at).is_some()
    }

    /// Adds `at`.
    pub(crate) fn set(&self, at: Address) {
        let Some((word, bit)) = self.place(at) else { return };
        // Most targets are reached more than once, and a load is cheaper than a locked operation.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether `at` is in the set.
    pub(crate) fn contains(&self, at: Address) -> bool {
        self.place(at).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// The first one in a short range.
    pub(crate) fn first_in(&self, range: Range<Address>) -> Option<Address> {
        let len = range.end.0.saturating_sub(range.start.0);
        (0..len).map(|offset| range.start + offset).find(|at| self.contains(*at))
    }
}
