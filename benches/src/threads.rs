//! What a hit costs where several threads hit one probe at once: beside the stubs written by hand, whose counter and ring they
//! share.

use std::path::PathBuf;

use crate::compile::Workshop;
use crate::error::Error;
use crate::responder::Responder;
use crate::session::{Session, Xol};
use crate::stats::{Quartiles, table};

/// How many threads at once.
const THREADS: [u32; 3] = [1, 2, 4];
/// Calls of each that are counted.
const CALLS: u64 = 2_000_000;
/// Calls of each that are recorded: together less than the rings hold.
const EVENTS: u64 = 5_000;
/// The function, and its copies with stubs by hand: that count, and that count and record.
const FUNCTION: &str = "lea";
const BY_HAND: &str = "lea_locked";
const EVENT_BY_HAND: &str = "lea_event";

/// ns of CPU time a call, by the number of threads.
type Samples = [Vec<f64>; THREADS.len()];

/// Unprobed, with a stub by hand, with xol's.
#[derive(Default)]
struct Costs {
    bare: Samples,
    by_hand: Samples,
    ours: Samples,
}

/// The measured program and what it is measured with.
struct Bench<'a> {
    workshop: &'a Workshop,
    xol: &'a Xol,
    program: PathBuf,
    target: Responder,
}

/// Measures and prints.
pub(crate) fn run(workshop: &Workshop, xol: &Xol, rounds: u32) -> Result<(), Error> {
    let program = workshop.target()?;
    let target = Responder::start(&program, &[])?;
    let mut bench = Bench { workshop, xol, program, target };
    let (mut counts, mut events) = (Costs::default(), Costs::default());
    for _ in 0..rounds {
        bench.count(&mut counts)?;
        bench.record(&mut events)?;
    }
    println!(
        "a hit where threads hit one probe at once: ns of CPU time over the bare call, median of {rounds} rounds [quartiles]\n"
    );
    println!("{}", render(&counts, &events));
    Ok(())
}

impl Bench<'_> {
    fn count(&mut self, costs: &mut Costs) -> Result<(), Error> {
        self.measure(FUNCTION, CALLS, &mut costs.bare)?;
        self.measure(BY_HAND, CALLS, &mut costs.by_hand)?;
        let session = self.probed("stat")?;
        self.measure(FUNCTION, CALLS, &mut costs.ours)?;
        let (report, _) = session.finish()?;
        exact(
            "counted",
            CALLS * THREADS.map(u64::from).iter().sum::<u64>(),
            report.hits_of(FUNCTION).unwrap_or(0),
        )
    }

    fn record(&mut self, costs: &mut Costs) -> Result<(), Error> {
        self.measure(FUNCTION, EVENTS, &mut costs.bare)?;
        self.measure(EVENT_BY_HAND, EVENTS, &mut costs.by_hand)?;
        let mut session = self.probed("trace")?;
        let mut hits = 0;
        for (threads, samples) in THREADS.iter().zip(&mut costs.ours) {
            samples.push(self.batch(FUNCTION, EVENTS, *threads)?);
            hits += EVENTS * u64::from(*threads);
            session.told(hits)?;
        }
        let (report, _) = session.finish()?;
        exact("recorded", hits, report.hit_lines + report.summary.lost)
    }

    /// A session whose probe is in.
    fn probed(&mut self, command: &str) -> Result<Session, Error> {
        let pristine = self.target.ask(&format!("code {FUNCTION}"))?;
        let probe = format!("{}:{FUNCTION}", self.program.display());
        let results = self.workshop.path("threads.jsonl");
        let mut session = self.xol.start(command, &[probe], self.target.pid(), &results)?;
        session.armed(|| Ok(self.target.ask(&format!("code {FUNCTION}"))? != pristine))?;
        Ok(session)
    }

    fn measure(&mut self, name: &str, calls: u64, samples: &mut Samples) -> Result<(), Error> {
        for (threads, samples) in THREADS.iter().zip(samples) {
            samples.push(self.batch(name, calls, *threads)?);
        }
        Ok(())
    }

    /// ns of CPU time a call, where so many threads make so many calls each.
    fn batch(&mut self, name: &str, calls: u64, threads: u32) -> Result<f64, Error> {
        let [ns, _] = self.target.ask_numbers(&format!("runs {name} {calls} {threads}"))?;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53 nanoseconds and calls")]
        Ok(ns as f64 / (calls * u64::from(threads)) as f64)
    }
}

fn exact(what: &str, calls: u64, hits: u64) -> Result<(), Error> {
    match hits == calls {
        true => Ok(()),
        false => Err(Error::Inexact(format!("threads made {calls} calls, and {hits} were {what}"))),
    }
}

fn render(counts: &Costs, events: &Costs) -> String {
    let heading = ["threads", "count by hand", "xol count", "ratio", "event by hand", "xol event", "ratio"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (index, threads) in THREADS.iter().enumerate() {
        let mut row = vec![threads.to_string()];
        row.extend([counts, events].into_iter().flat_map(|costs| costs.cells(index)));
        rows.push(row);
    }
    table(&rows)
}

impl Costs {
    /// By hand, ours, and their ratio, for one number of threads.
    fn cells(&self, index: usize) -> [String; 3] {
        let over_bare = |with: &Samples| {
            let deltas: Vec<f64> =
                with[index].iter().zip(&self.bare[index]).map(|(with, bare)| with - bare).collect();
            Quartiles::of(&deltas)
        };
        let cell =
            |quartiles: Option<Quartiles>| quartiles.map_or_else(|| "-".to_owned(), |some| some.to_string());
        let (hand, ours) = (over_bare(&self.by_hand), over_bare(&self.ours));
        let ratio = ours.zip(hand).map(|(ours, hand)| format!("{:.2}", ours.median / hand.median));
        [cell(hand), cell(ours), ratio.unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::{Costs, Samples, render};

    #[test]
    fn the_table_shows_both_and_their_ratio() {
        let of = |ns: f64| -> Samples { [vec![ns; 3], vec![ns; 3], vec![ns; 3]] };
        let costs = Costs { bare: of(2.0), by_hand: of(4.0), ours: of(3.0) };
        let text = render(&costs, &Costs::default());
        assert!(text.contains("2.00 [2.00 2.00]  1.00 [1.00 1.00]   0.50"), "{text}");
    }
}
