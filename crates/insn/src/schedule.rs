//! Which of the jumps that are possible are made.
//!
//! Patches must not overlap, and every jump serves the sites among the instructions it displaces. The set that serves the
//! most is found exactly, as weighted intervals are scheduled: with the jumps in the order of their ends, the best of the
//! first `n` either leaves out the last, or is that and the best of those that end before it begins.

use std::collections::BTreeMap;
use std::ops::Add;

use crate::address::Address;
use crate::plan::Mechanism;
use crate::set::Wanted;
use crate::span::Span;

/// What is good about a set of jumps, by weight: sites that take nothing but a jump, sites, few puns (a page each), few
/// patches, few bytes between a patch's start and its first site, few bytes displaced. Sums of bests are best, so the order may be followed
/// piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Score([i64; 6]);

impl Add for Score {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|part| self.0[part].saturating_add(other.0[part])))
    }
}

/// The best set of `jumps` that do not overlap, sorted by start.
pub(crate) fn best(mut jumps: Vec<Span>, wanted: &BTreeMap<Address, Wanted>) -> Vec<Span> {
    jumps.sort_unstable_by_key(|span| (span.end(), span.start));
    jumps.dedup_by_key(|span| (span.end(), span.start));
    let before = |start: Address| jumps.partition_point(|span| span.end() <= start);
    let mut scores = vec![Score::default()];
    for (index, span) in jumps.iter().enumerate() {
        let with = scores[before(span.start)] + score(span, wanted);
        scores.push(with.max(scores[index]));
    }
    let mut chosen = Vec::new();
    let mut count = jumps.len();
    while let Some(last) = count.checked_sub(1) {
        if scores[count] == scores[last] {
            count = last;
        } else {
            chosen.push(last);
            count = before(jumps[last].start);
        }
    }
    chosen.into_iter().rev().map(|index| jumps[index].clone()).collect()
}

fn score(span: &Span, wanted: &BTreeMap<Address, Wanted>) -> Score {
    let sites: Vec<_> = span.insns.iter().filter_map(|(at, _)| Some((at, wanted.get(&at)?))).collect();
    let forced = sites.iter().filter(|(_, want)| want.force == Some(Mechanism::Jump));
    let lead = sites.first().map_or(0, |(at, _)| *at - span.start);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Score([
        number(forced.count() as u64),
        number(sites.len() as u64),
        -i64::from(span.is_pun()),
        -1,
        -number(lead),
        -number(span.end() - span.start),
    ])
}
