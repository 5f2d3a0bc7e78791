//! Counts against counts.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use super::before::Before;
use super::callgrind::{Count, Counts, UNKNOWN};
use super::cases::Difference;
use super::modules::Module;

/// Why counts in a function with `cpuid` may differ.
const OTHER_PROCESSOR: &str = "the function asks the processor what it is, and valgrind's is another one";

/// How many functions that begin before an address may contain it.
const NESTED: usize = 64;

/// A probed instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) hits: u64,
    pub(super) mechanism: String,
    pub(super) reason: Option<String>,
    /// Its symbol, or its address where there is none.
    pub(super) function: String,
}

impl Site {
    pub(super) fn is_armed(&self) -> bool {
        matches!(self.mechanism.as_str(), "jump" | "pun" | "trap")
    }
}

/// The sites of one module by file address.
pub(super) type Sites = BTreeMap<u64, Site>;

/// What xol reported.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// By path.
    pub(super) sites: BTreeMap<String, Sites>,
    pub(super) summary: Value,
}

impl Probed {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut probed = Self::default();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
            match value["type"].as_str() {
                Some("stat") => {
                    let (path, at, site) = site(&value).ok_or_else(|| format!("a strange line: {line}"))?;
                    let sites = probed.sites.entry(path).or_default();
                    // Where env executed the program: its own process had no such file.
                    if site.mechanism != "waiting" || !sites.contains_key(&at) {
                        sites.insert(at, site);
                    }
                }
                Some("summary") => probed.summary = value,
                _ => return Err(format!("a strange line: {line}")),
            }
        }
        Ok(probed)
    }
}

fn site(line: &Value) -> Option<(String, u64, Site)> {
    let (path, name) = line["probe"].as_str()?.strip_prefix("uprobe:")?.rsplit_once(':')?;
    let at = u64::from_str_radix(line["file_address"].as_str()?.strip_prefix("0x")?, 16).ok()?;
    let site = Site {
        hits: line["hits"].as_u64()?,
        mechanism: line["mechanism"].as_str()?.to_owned(),
        reason: line["reason"].as_str().map(str::to_owned),
        function: name.rsplit_once("+0x").map_or(name, |(function, _)| function).to_owned(),
    };
    Some((path.to_owned(), at, site))
}

/// An instruction whose two counts differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) at: u64,
    pub(super) function: String,
    pub(super) mechanism: String,
    pub(super) hits: u64,
    pub(super) expected: u64,
}

/// One module's counts compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Compared {
    pub(super) sites: u64,
    pub(super) traps: u64,
    /// Sites that were executed, and how often all together.
    pub(super) executed: u64,
    pub(super) hits: u64,
    /// Repeated string instructions that were executed.
    pub(super) repeated: u64,
    /// By reason; the second number: of those, how many the other run executed.
    pub(super) refused: BTreeMap<String, (u64, u64)>,
    /// Instructions that the other run executed outside every known function: no probe was asked for there.
    pub(super) outside: u64,
    /// The same in a known function: they have no probe, and should.
    pub(super) left_out: Vec<u64>,
    /// By the reason that the case gives.
    pub(super) explained: BTreeMap<&'static str, Vec<Mismatch>>,
    pub(super) unexplained: Vec<Mismatch>,
}

/// The other run's counts of one module.
pub(super) struct Oracle {
    counts: BTreeMap<u64, Count>,
    before: Before,
}

impl Oracle {
    /// Callgrind's counts of a module. `mappings` say where valgrind had it: for what it counts under no name.
    pub(super) fn new(
        counts: &Counts,
        module: &Module,
        mappings: &[(String, Range<u64>, u64)],
        before: Before,
    ) -> Self {
        let path = module.path.to_string_lossy();
        let mut own = counts.0.get(&*path).cloned().unwrap_or_default();
        for (_, range, offset) in mappings.iter().filter(|(name, ..)| *name == path) {
            let Some(bias) = module.image.bias_of(insn::Address(range.start), *offset, true) else {
                continue;
            };
            let nameless = counts.0.get(UNKNOWN).into_iter().flat_map(|all| all.range(range.clone()));
            own.extend(nameless.map(|(at, count)| (bias.file(insn::Address(*at)).0, count.clone())));
        }
        Self { counts: own, before }
    }

    /// Nothing is known of the other run.
    pub(super) fn none() -> Self {
        Self { counts: BTreeMap::new(), before: Before::new() }
    }

    fn count(&self, at: u64) -> u64 {
        let before = self.before.get(&at).copied().unwrap_or(0);
        self.counts.get(&at).map_or(0, |count| count.times).saturating_sub(before)
    }

    /// The name of the function with an instruction, where an instruction of it that was counted has one.
    fn function(&self, at: u64, functions: &[Range<u64>]) -> Option<String> {
        let own = functions.iter().find(|range| range.contains(&at)).cloned().unwrap_or(at..at + 1);
        let counted = self.counts.get(&at).or_else(|| self.counts.range(own).next().map(|(_, count)| count));
        let name = &counted?.function;
        let is_name = !name.is_empty() && !name.starts_with("0x") && &**name != UNKNOWN;
        is_name.then(|| name.split('\'').next().unwrap_or_default().to_owned())
    }
}

/// Compares each site of a module.
pub(super) fn compare(module: &Module, sites: &Sites, oracle: &Oracle, known: &[Difference]) -> Compared {
    let mut compared = Compared::default();
    let known: Vec<_> = known.iter().filter(|known| module.name().starts_with(known.module)).collect();
    let functions = module.functions();
    let asking = module.asking_processor(&functions);
    let mut before = None;
    for (&at, site) in sites {
        let (len, repeats) = module.instruction(at).unwrap_or((0, false));
        let previous = before.replace(at);
        if !site.is_armed() {
            let reason = reason_kind(site.reason.as_deref().unwrap_or_default());
            let (all, executed) = compared.refused.entry(reason).or_default();
            *all += 1;
            *executed += u64::from(oracle.count(at) > 0);
            continue;
        }
        compared.sites += 1;
        compared.traps += u64::from(site.mechanism == "trap");
        compared.executed += u64::from(site.hits > 0);
        compared.hits += site.hits;
        compared.repeated += u64::from(repeats && site.hits > 0);
        let expected = oracle.count(at);
        // It counts as often as a neighbour: what is executed before it, or behind.
        let neighbours = [previous, Some(at + len)].map(|other| other.map(|other| oracle.count(other)));
        let is_equal = match repeats {
            true => neighbours.contains(&Some(site.hits)) && (site.hits > 0) == (expected > 0),
            false => site.hits == expected,
        };
        if !is_equal {
            let function = oracle.function(at, &functions).unwrap_or_else(|| site.function.clone());
            let mechanism = site.mechanism.clone();
            let mismatch = Mismatch { at, function, mechanism, hits: site.hits, expected };
            let asks = || asking.iter().any(|range| range.contains(&at)).then_some(OTHER_PROCESSOR);
            let known = known.iter().find(|known| known.is_about(&mismatch.function));
            match known.map(|known| known.why).or_else(asks) {
                Some(why) => compared.explained.entry(why).or_default().push(mismatch),
                None => compared.unexplained.push(mismatch),
            }
        }
    }
    let has_no_line = |at: &u64| oracle.count(*at) > 0 && !sites.contains_key(at);
    let (inside, outside): (Vec<u64>, Vec<u64>) =
        oracle.counts.keys().copied().filter(has_no_line).partition(|at| {
            let behind = functions.partition_point(|function| function.start <= *at);
            functions[..behind].iter().rev().take(NESTED).any(|function| function.contains(at))
        });
    (compared.left_out, compared.outside) = (inside, outside.len() as u64);
    compared
}

/// A refusal without its address and bytes.
fn reason_kind(reason: &str) -> String {
    let text = reason.split_once("): ").or_else(|| reason.split_once(": ")).map_or(reason, |(_, text)| text);
    let words = text.split_whitespace();
    words.map(|word| if word.contains("0x") { "N" } else { word }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_xol() {
        let text = r#"{"type":"stat","probe":"uprobe:/lib/a.so:f+0x4","spec":"a:0x*","file_address":"0x14","mechanism":"jump","hits":3,"reason":null}
{"type":"summary","hits":3}"#;
        let probed = Probed::parse(text).unwrap();
        let site = &probed.sites["/lib/a.so"][&0x14];
        assert_eq!((site.hits, site.function.as_str(), site.is_armed()), (3, "f", true));
        assert_eq!(probed.summary["hits"], 3);
    }

    #[test]
    fn refusals_by_kind() {
        assert_eq!(
            reason_kind("0x7f (c6 f8): `xabort $0xff` cannot be displaced: no"),
            "`xabort N cannot be displaced: no"
        );
        assert_eq!(reason_kind("0x7f: no room"), "no room");
    }
}
