//! The cost of one hit, by the ways to take it, on functions that differ in their first instruction.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::compile::Workshop;
use crate::error::Error;
use crate::peer::Peer;
use crate::session::Xol;
use crate::stats::{Quartiles, figure, table};
use crate::uprobe::Uprobe;

/// The functions of `programs/functions.S`, and what their first instruction is to the kernel's uprobe.
const FUNCTIONS: [(&str, &str); 4] =
    [("lea", "single-stepped"), ("push", "emulated"), ("nop", "emulated"), ("nop5", "5-byte nop")];

/// One way to take a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// Not probed.
    Bare,
    /// The stub written by hand.
    ByHand,
    /// `xol stat`.
    Count,
    /// Not probed, with the pauses of `Event`.
    BarePaced,
    /// `xol trace`, in bursts short enough for the rings.
    Event,
    /// The kernel's uprobe with a counting perf event.
    Kernel,
}

/// How a batch of calls is run.
struct Batch {
    calls: u64,
    chunk: u64,
    pause_us: u32,
}

impl Way {
    /// Batches long enough for the clock and short enough for many rounds: 5 to 100 ms each.
    fn batch(self) -> Batch {
        match self {
            Self::Bare | Self::ByHand | Self::Count => {
                Batch { calls: 4_000_000, chunk: 4_000_000, pause_us: 0 }
            }
            Self::BarePaced | Self::Event => Batch { calls: 40_000, chunk: 1_000, pause_us: 5_000 },
            Self::Kernel => Batch { calls: 20_000, chunk: 20_000, pause_us: 0 },
        }
    }
}

/// The results of all rounds.
#[derive(Default)]
struct Samples {
    /// ns of CPU time a call.
    ns: HashMap<(Way, &'static str), Vec<f64>>,
    /// Events that `xol trace` lost, and hits.
    lost: u64,
    hits: u64,
    /// Why xol or the kernel's uprobe have no figures.
    missing: Vec<String>,
}

struct Bench<'a> {
    xol: &'a Xol,
    target: Peer,
    program: PathBuf,
    results: PathBuf,
    samples: Samples,
}

/// Measures and prints.
pub(crate) fn run(workshop: &Workshop, xol: &Xol, rounds: u32) -> Result<(), Error> {
    let program = workshop.target()?;
    let target = Peer::start(&program, &[])?;
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
                self.measure(Way::BarePaced, function)?;
                self.by_hand(function)?;
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
        let Batch { calls, chunk, pause_us } = way.batch();
        let request = format!("run {name} {calls} {chunk} {pause_us}");
        let [ns, sum] = self.target.ask_numbers(&request)?;
        let expected = checksum(function, calls, chunk);
        if sum != expected {
            return Err(Error::Inexact(format!("{name} computed {sum}, not {expected}")));
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53 nanoseconds and calls")]
        self.samples.ns.entry((way, function)).or_default().push(ns as f64 / calls as f64);
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
            exact(function, Way::Count, report.hits_of(function).unwrap_or(0))?;
        }
        Ok(())
    }

    /// All functions under one `xol trace`: every hit is a line or is counted as lost.
    fn event(&mut self) -> Result<(), Error> {
        let report = self.under_xol("trace", Way::Event)?;
        let calls = Way::Event.batch().calls * FUNCTIONS.len() as u64;
        let told = report.hit_lines + report.summary.lost;
        self.samples.hits += calls;
        self.samples.lost += report.summary.lost;
        match told == calls {
            true => Ok(()),
            false => Err(Error::Inexact(format!("trace told of {told} hits, there were {calls}"))),
        }
    }

    fn under_xol(&mut self, command: &str, way: Way) -> Result<crate::session::Report, Error> {
        let probes: Vec<String> =
            FUNCTIONS.iter().map(|(function, _)| format!("{}:{function}", self.program.display())).collect();
        let pristine = code_of_all(&mut self.target)?;
        let mut session = self.xol.start(command, &probes, self.target.pid(), &self.results)?;
        session.armed(|| {
            let now = code_of_all(&mut self.target)?;
            Ok(now.iter().zip(&pristine).all(|(now, then)| now != then))
        })?;
        for (function, _) in FUNCTIONS {
            self.measure(way, function)?;
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
            let request = format!("code {function}");
            let answer = self.target.ask(&request)?;
            let address = answer.split(' ').next().and_then(|word| u64::from_str_radix(word, 16).ok());
            let Some(address) = address else { return Err(Error::Protocol { request, answer }) };
            let mut uprobe = match Uprobe::arm(&self.program, self.target.pid(), address) {
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

fn exact(function: &str, way: Way, hits: u64) -> Result<(), Error> {
    let calls = way.batch().calls;
    match hits == calls {
        true => Ok(()),
        false => {
            Err(Error::Inexact(format!("{way:?} counted {hits} hits of {function}, there were {calls}")))
        }
    }
}

fn code_of_all(target: &mut Peer) -> Result<Vec<String>, Error> {
    FUNCTIONS.iter().map(|(function, _)| target.ask(&format!("code {function}"))).collect()
}

/// What a batch of the measured program must compute: each call adds its index within the chunk, `lea` 8 more.
fn checksum(function: &str, calls: u64, chunk: u64) -> u64 {
    let indices = |count: u64| count * count.saturating_sub(1) / 2;
    let extra = if function == "lea" { 8 } else { 0 };
    calls / chunk * indices(chunk) + indices(calls % chunk) + extra * calls
}

impl Samples {
    /// Quartiles of what a way costs beyond the bare call of the same round.
    fn over_bare(&self, way: Way, function: &'static str) -> Option<Quartiles> {
        let base = if way == Way::Event { Way::BarePaced } else { Way::Bare };
        let (with, bare) = (self.ns.get(&(way, function))?, self.ns.get(&(base, function))?);
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
        if self.lost > 0 {
            text.push_str(&format!("\nevents lost (and cheaper for it): {} of {}\n", self.lost, self.hits));
        }
        for reason in &self.missing {
            text.push_str(&format!("\nnot measured: {reason}\n"));
        }
        text
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let ways = [Way::ByHand, Way::Count, Way::Event, Way::Kernel];
        let heading = [
            "function",
            "first instruction",
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
    use super::{Batch, FUNCTIONS, Samples, Way, checksum, code_of_all};
    use crate::compile::Workshop;
    use crate::peer::Peer;

    #[test]
    fn the_measured_program_keeps_its_protocol() {
        let workshop = Workshop::new().unwrap();
        let mut target = Peer::start(&workshop.target().unwrap(), &[]).unwrap();
        let code = code_of_all(&mut target).unwrap();
        assert!(code[0].ends_with("488d47084801f0c3"), "{}", code[0]);
        assert!(code[3].contains(" 0f1f440000"), "{}", code[3]);
        for (function, _) in FUNCTIONS {
            for name in [function.to_owned(), format!("{function}_stub")] {
                let [_, sum] = target.ask_numbers(&format!("run {name} 2500 1000 1")).unwrap();
                assert_eq!(sum, checksum(function, 2500, 1000), "{name}");
            }
            let [hits] = target.ask_numbers(&format!("hits {function}_stub")).unwrap();
            assert_eq!(hits, 2500);
        }
        assert_eq!(target.ask("run nothing 1 1 0").unwrap(), "no such function");
    }

    #[test]
    fn batches_are_whole_chunks() {
        for way in [Way::Bare, Way::ByHand, Way::Count, Way::BarePaced, Way::Event, Way::Kernel] {
            let Batch { calls, chunk, .. } = way.batch();
            assert_eq!(calls % chunk, 0, "{way:?}");
        }
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
    }
}
