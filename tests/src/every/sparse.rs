//! Probes at some instructions only. Where each instruction has one, neighbours are displaced together; alone among others that
//! stay, a short one needs a pun, padding, or room that a neighbour makes.

use std::collections::BTreeMap;
use std::path::Path;

use super::cases::Difference;
use super::compare::{Probed, Site};
use crate::Random;

/// Places around which sites are chosen.
const PLACES: usize = 400;
/// How many instructions behind a place are chosen among.
const AROUND: usize = 12;

/// Sites, each by its file and its address there, with what all-at-once counted.
pub(super) type Chosen<'p> = Vec<(&'p str, u64, &'p Site)>;

/// Some of the sites that were executed, and of those behind them; always the same.
pub(super) fn choose(probed: &Probed) -> Chosen<'_> {
    let all: Vec<_> = probed
        .sites
        .iter()
        .flat_map(|(path, sites)| sites.iter().map(move |(at, site)| (&**path, *at, site)))
        .filter(|(.., site)| site.is_armed())
        .collect();
    let executed: Vec<usize> = (0..all.len()).filter(|index| all[*index].2.hits > 0).collect();
    let mut random = Random::new(1);
    let mut chosen = BTreeMap::new();
    for _ in 0..PLACES {
        let Some(place) = executed.get(random.below(executed.len())) else { break };
        for site in &all[*place..all.len().min(place + AROUND)] {
            if random.below(3) == 0 {
                chosen.insert((site.0, site.1), *site);
            }
        }
    }
    chosen.into_values().collect()
}

/// The PROBEs of what was chosen.
pub(super) fn specs(chosen: &Chosen<'_>) -> Vec<String> {
    chosen.iter().map(|(path, at, _)| format!("{path}:{at:#x}")).collect()
}

/// How many of the chosen were armed in which way, and those whose counts differ from the ones of all-at-once.
pub(super) fn compare<'p>(
    chosen: &Chosen<'p>,
    sparse: &'p Probed,
    known: &[Difference],
) -> (BTreeMap<&'p str, usize>, Vec<String>) {
    let (mut ways, mut wrong) = (BTreeMap::new(), Vec::new());
    for (path, at, before) in chosen {
        let Some(now) = sparse.sites.get(*path).and_then(|sites| sites.get(at)) else {
            wrong.push(format!("{path}:{at:#x} has no line"));
            continue;
        };
        *ways.entry(&*now.mechanism).or_default() += 1;
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        let is_known = known.iter().any(|one| name.starts_with(one.module) && one.is_about(&before.function));
        if now.hits != before.hits && !is_known {
            wrong
                .push(format!("{path}:{at:#x} ({}): {} instead of {}", now.mechanism, now.hits, before.hits));
        }
    }
    (ways, wrong)
}
