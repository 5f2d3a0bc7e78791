//! The cost of one hit, by the ways to take it, on functions that differ in their first instruction.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::compile::Workshop;
use crate::error::Error;
use crate::responder::Responder;
use crate::session::Xol;
use crate::stats::{Quartiles, figure, table};
use crate::uprobe::Uprobe;

/// The functions of `programs/functions.S`, and what the probed instruction is to the kernel's uprobe: the first, but in
/// `live`, where flags and registers are alive at it.
const FUNCTIONS: [(&str, &str); 5] = [
    ("lea", "single-stepped"),
    ("push", "emulated"),
    ("nop", "emulated"),
    ("nop5", "5-byte nop"),
    (LIVE, "single-stepped"),
];
const LIVE: &str = "live";
/// Where the second instruction of `live` is.
const LIVE_OFFSET: u64 = 3;

/// Copies of `lea` with stubs by hand, and what those do: the parts of a cost that no probe can avoid.
const PARTS: [(Way, &str, &str); 6] = [
    (Way::Part, "lea_jump", "jump there and back"),
    (Way::Part, "lea_locked", "count (locked add)"),
    (Way::Part, "lea_time", "read the time (rdtsc)"),
    (Way::BurstPart, "lea_record", "count and write a record, no time"),
    (Way::BurstPart, "lea_event", "count and write a record with the time"),
    (Way::BurstPart, "lea_event_alone", "the same without a lock"),
];

/// One way to take a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// Not probed.
    Bare,
    /// The stub written by hand.
    ByHand,
    /// Another stub written by hand, one of [`PARTS`].
    Part,
    /// The same, in bursts as `Event`.
    BurstPart,
    /// `xol stat`.
    Count,
    /// Not probed, in bursts as `Event`.
    BareBurst,
    /// `xol trace`, in bursts that the rings hold.
    Event,
    /// The kernel's uprobe with a counting perf event.
    Kernel,
}

impl Way {
    /// How many batches make a round.
    fn batches(self) -> u64 {
        if matches!(self, Self::BareBurst | Self::BurstPart | Self::Event) { 4 } else { 1 }
    }

    /// Calls in a batch: enough for the clock, few enough for many rounds (up to 100 ms each). A burst is less than
    /// a ring holds; the next one comes when the reader has told of all.
    fn calls(self) -> u64 {
        match self {
            Self::Bare | Self::ByHand | Self::Part | Self::Count => 4_000_000,
            Self::BareBurst | Self::BurstPart | Self::Event | Self::Kernel => 20_000,
        }
    }
}

/// The results of all rounds.
#[derive(Default)]
struct Samples {
    /// ns of CPU time a call.
    ns: HashMap<(Way, &'static str), Vec<f64>>,
    /// Hits under `xol trace`, and how many of them its reader told of and counted as lost.
    hits: u64,
    told: u64,
    lost: u64,
    /// Why xol or the kernel's uprobe have no figures.
    missing: Vec<String>,
}

struct Bench<'a> {
    xol: &'a Xol,
    target: Responder,
    program: PathBuf,
    results: PathBuf,
    samples: Samples,
}

/// Measures and prints.
pub(crate) fn run(workshop: &Workshop, xol: &Xol, rounds: u32) -> Result<(), Error> {
    let program = workshop.target()?;
    let target = Responder::start(&program, &[])?;
    let results = workshop.path("cost.jsonl");
    let mut bench = Bench { xol, target, program, results, samples: Samples::default() };
    let outcome = bench.rounds(rounds);
    println!("{}", bench.samples.render(rounds));
    outcome
}

impl Bench<'_> {
    /// All ways in every round, so that a change of the machine's speed meets all alike. A way that fails is not
    /// tried again; the rest goes on.
    fn rounds(&mut self, rounds: u32) -> Result<(), Error> {
        let mut xol_outcome = Ok(());
        let mut kernel = true;
        for _ in 0..rounds {
            for (function, _) in FUNCTIONS {
                self.measure(Way::Bare, function)?;
                for _ in 0..Way::BareBurst.batches() {
                    self.measure(Way::BareBurst, function)?;
                }
                self.by_hand(function)?;
            }
            for (way, part, _) in PARTS {
                for _ in 0..way.batches() {
                    self.batch(way, part, part, "lea")?;
                }
            }
            if xol_outcome.is_ok() {
                xol_outcome = self.count().and_then(|()| self.event());
                if let Err(error) = &xol_outcome {
                    self.samples.missing.push(format!("xol: {error}"));
                }
            }
            if kernel {
                kernel = self.kernel()?;
            }
        }
        xol_outcome
    }

    /// One batch of `function`; its checksum must not depend on who watches.
    fn measure(&mut self, way: Way, function: &'static str) -> Result<(), Error> {
        let name = if way == Way::ByHand { format!("{function}_stub") } else { function.to_owned() };
        self.batch(way, function, &name, function)
    }

    /// One batch of the function called `name`, a copy of `original`, entered under `key`.
    fn batch(&mut self, way: Way, key: &'static str, name: &str, original: &str) -> Result<(), Error> {
        let ns = run_calls(&mut self.target, name, original, way.calls())?;
        self.samples.ns.entry((way, key)).or_default().push(ns);
        Ok(())
    }

    /// The hand-written stub counts too: its own counter must say so.
    fn by_hand(&mut self, function: &'static str) -> Result<(), Error> {
        let request = format!("hits {function}_stub");
        let [before] = self.target.ask_numbers(&request)?;
        self.measure(Way::ByHand, function)?;
        let [after] = self.target.ask_numbers(&request)?;
        exact(function, Way::ByHand, after.wrapping_sub(before))
    }

    /// All functions under one `xol stat`.
    fn count(&mut self) -> Result<(), Error> {
        let report = self.under_xol("stat", Way::Count)?;
        for (function, _) in FUNCTIONS {
            exact(function, Way::Count, report.hits_of(&site(function)).unwrap_or(0))?;
        }
        Ok(())
    }

    /// All functions under one `xol trace`: every hit is a line or is counted as lost.
    fn event(&mut self) -> Result<(), Error> {
        let report = self.under_xol("trace", Way::Event)?;
        let calls = Way::Event.calls() * Way::Event.batches() * FUNCTIONS.len() as u64;
        let told = report.hit_lines + report.summary.lost;
        self.samples.hits += calls;
        self.samples.told += report.hit_lines;
        self.samples.lost += report.summary.lost;
        match told == calls {
            true => Ok(()),
            false => Err(Error::Inexact(format!("trace told of {told} hits, there were {calls}"))),
        }
    }

    fn under_xol(&mut self, command: &str, way: Way) -> Result<crate::session::Report, Error> {
        let probes: Vec<String> = FUNCTIONS
            .iter()
            .map(|(function, _)| format!("{}:{}", self.program.display(), site(function)))
            .collect();
        let pristine = code_of_all(&mut self.target)?;
        let mut session = self.xol.start(command, &probes, self.target.pid(), &self.results)?;
        session.armed(|| {
            let now = code_of_all(&mut self.target)?;
            Ok(now.iter().zip(&pristine).all(|(now, then)| now != then))
        })?;
        let mut hits = 0;
        for (function, _) in FUNCTIONS {
            for _ in 0..way.batches() {
                self.measure(way, function)?;
                hits += way.calls();
                if way == Way::Event {
                    session.told(hits)?;
                }
            }
        }
        let (report, _) = session.finish()?;
        if !report.summary.text_restored || code_of_all(&mut self.target)? != pristine {
            return Err(Error::Inexact(format!("`xol {command}` did not restore the text")));
        }
        Ok(report)
    }

    /// All functions under the kernel's uprobe; false, with the reason noted, if that is not to be had.
    fn kernel(&mut self) -> Result<bool, Error> {
        for (function, _) in FUNCTIONS {
            let address = self.target.address_of(function)?;
            let offset = if function == LIVE { LIVE_OFFSET } else { 0 };
            let mut uprobe = match Uprobe::arm(&self.program, self.target.pid(), address + offset) {
                Ok(uprobe) => uprobe,
                Err(reason) => {
                    self.samples.missing.push(format!("the kernel's uprobe: {reason}"));
                    return Ok(false);
                }
            };
            self.measure(Way::Kernel, function)?;
            match uprobe.hits() {
                Ok(hits) => exact(function, Way::Kernel, hits)?,
                Err(reason) => self.samples.missing.push(format!("the kernel's count: {reason}")),
            }
        }
        Ok(true)
    }
}

/// The place in a function that is probed, as xol names it.
fn site(function: &str) -> String {
    if function == LIVE { format!("{function}+{LIVE_OFFSET:#x}") } else { function.to_owned() }
}

fn exact(function: &str, way: Way, hits: u64) -> Result<(), Error> {
    let calls = way.calls();
    match hits == calls {
        true => Ok(()),
        false => {
            Err(Error::Inexact(format!("{way:?} counted {hits} hits of {function}, there were {calls}")))
        }
    }
}

fn code_of_all(target: &mut Responder) -> Result<Vec<String>, Error> {
    FUNCTIONS.iter().map(|(function, _)| target.ask(&format!("code {function}"))).collect()
}

/// Has the measured program call `name`, which computes what `original` does; its checksum must not depend on who watches.
/// Gives nanoseconds of CPU time a call.
pub(crate) fn run_calls(
    target: &mut Responder,
    name: &str,
    original: &str,
    calls: u64,
) -> Result<f64, Error> {
    let [ns, sum] = target.ask_numbers(&format!("run {name} {calls}"))?;
    let expected = checksum(original, calls);
    if sum != expected {
        return Err(Error::Inexact(format!("{name} computed {sum}, not {expected}")));
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53 nanoseconds and calls")]
    Ok(ns as f64 / calls as f64)
}

/// What a batch of the measured program must compute: each call adds its index, `lea` 8 more.
fn checksum(function: &str, calls: u64) -> u64 {
    let extra = if function == "lea" { 8 } else { 0 };
    calls * calls.saturating_sub(1) / 2 + extra * calls
}

impl Samples {
    /// Quartiles of what a way costs beyond the bare call of the same round.
    fn over_bare(&self, way: Way, function: &'static str) -> Option<Quartiles> {
        self.over(way, function, function)
    }

    /// The same where the bare call is that of the function `original`.
    fn over(&self, way: Way, function: &'static str, original: &'static str) -> Option<Quartiles> {
        let base = if matches!(way, Way::Event | Way::BurstPart) { Way::BareBurst } else { Way::Bare };
        let (with, bare) = (self.ns.get(&(way, function))?, self.ns.get(&(base, original))?);
        let deltas: Vec<f64> = with.iter().zip(bare).map(|(with, bare)| with - bare).collect();
        Quartiles::of(&deltas)
    }

    fn render(&self, rounds: u32) -> String {
        let mut text = format!(
            "cost of a hit: ns of CPU time over the bare call, median of {rounds} rounds [quartiles]\n\n{}",
            table(&self.rows())
        );
        text.push_str("\nhow many times dearer the kernel's uprobe is\n\n");
        text.push_str(&table(&self.ratios()));
        text.push_str("\nwhat of it is the machine's: stubs by hand on `lea`\n\n");
        text.push_str(&table(&self.parts()));
        text.push_str(&format!(
            "\nxol trace: {} hits in bursts of {}, {} read and written, {} lost{}\n",
            self.hits,
            Way::Event.calls(),
            self.told,
            self.lost,
            if self.lost > 0 { " (and cheaper for it)" } else { "" }
        ));
        for reason in &self.missing {
            text.push_str(&format!("\nnot measured: {reason}\n"));
        }
        text
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let ways = [Way::ByHand, Way::Count, Way::Event, Way::Kernel];
        let heading = [
            "function",
            "probed instruction",
            "bare call",
            "stub by hand",
            "xol count",
            "xol event",
            "kernel uprobe",
        ];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for (function, first) in FUNCTIONS {
            let bare = self.ns.get(&(Way::Bare, function)).and_then(|samples| Quartiles::of(samples));
            let mut row = vec![function.to_owned(), first.to_owned(), cell(bare, "")];
            row.extend(ways.map(|way| cell(self.over_bare(way, function), "+")));
            rows.push(row);
        }
        rows
    }

    fn parts(&self) -> Vec<Vec<String>> {
        let row = |name: &str, cell: String| vec![name.to_owned(), cell];
        let mut rows = vec![row("the stub's work", "ns".to_owned())];
        let alone = self.over_bare(Way::ByHand, "lea");
        rows.extend(PARTS.map(|(way, part, work)| row(work, cell(self.over(way, part, "lea"), "+"))));
        rows.insert(2, row("count", cell(alone, "+")));
        rows
    }

    fn ratios(&self) -> Vec<Vec<String>> {
        let heading = ["function", "than xol count", "than xol event", "than the stub by hand"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for (function, _) in FUNCTIONS {
            let kernel = self.over_bare(Way::Kernel, function);
            let ratio = |way| {
                let (kernel, ours) = (kernel?, self.over_bare(way, function)?);
                (ours.median > 0.0).then(|| figure(kernel.median / ours.median))
            };
            let mut row = vec![function.to_owned()];
            row.extend(
                [Way::Count, Way::Event, Way::ByHand].map(|way| ratio(way).unwrap_or_else(|| "-".to_owned())),
            );
            rows.push(row);
        }
        rows
    }
}

fn cell(quartiles: Option<Quartiles>, sign: &str) -> String {
    quartiles.map_or_else(
        || "-".to_owned(),
        |quartiles| {
            let sign = if quartiles.median < 0.0 { "" } else { sign };
            format!("{sign}{quartiles}")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::{FUNCTIONS, PARTS, Samples, Way, checksum, code_of_all};
    use crate::compile::Workshop;
    use crate::responder::Responder;

    #[test]
    fn the_measured_program_keeps_its_protocol() {
        let workshop = Workshop::new().unwrap();
        let mut target = Responder::start(&workshop.target().unwrap(), &[]).unwrap();
        let code = code_of_all(&mut target).unwrap();
        assert!(code[0].ends_with("488d47084801f0c3"), "{}", code[0]);
        assert!(code[3].contains(" 0f1f440000"), "{}", code[3]);
        for (function, _) in FUNCTIONS {
            for name in [function.to_owned(), format!("{function}_stub")] {
                let [_, sum] = target.ask_numbers(&format!("run {name} 2500")).unwrap();
                assert_eq!(sum, checksum(function, 2500), "{name}");
            }
            let [hits] = target.ask_numbers(&format!("hits {function}_stub")).unwrap();
            assert_eq!(hits, 2500);
        }
        for (_, part, _) in PARTS {
            let [_, sum] = target.ask_numbers(&format!("run {part} 2500")).unwrap();
            assert_eq!(sum, checksum("lea", 2500), "{part}");
        }
        assert_eq!(target.ask("run nothing 1").unwrap(), "no such function");
    }

    #[test]
    fn the_table_shows_differences_and_ratios() {
        let mut samples = Samples::default();
        for (way, ns) in [(Way::Bare, 2.0), (Way::Count, 3.0), (Way::Kernel, 4_002.0)] {
            samples.ns.insert((way, "lea"), vec![ns; 9]);
        }
        samples.missing.push("xol: gone".to_owned());
        let text = samples.render(9);
        assert!(text.contains("+1.00 [1.00 1.00]"), "{text}");
        assert!(text.contains("+4,000 [4,000 4,000]"), "{text}");
        let ratios = samples.ratios();
        assert_eq!(ratios[1], ["lea", "4,000", "-", "-"]);
        assert!(text.contains("not measured: xol: gone"), "{text}");
        assert!(text.contains("xol trace: 0 hits in bursts of 20000, 0 read and written, 0 lost"), "{text}");
    }
}
