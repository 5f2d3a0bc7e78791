//! What a counted hit costs where several threads hit one probe at once: beside the stub written by hand, whose counter they
//! share.

use crate::compile::Workshop;
use crate::error::Error;
use crate::responder::Responder;
use crate::session::Xol;
use crate::stats::{Quartiles, table};

/// How many threads at once.
const THREADS: [u32; 3] = [1, 2, 4];
/// Calls of each.
const CALLS: u64 = 2_000_000;
/// The function, and its copy with a stub by hand.
const FUNCTION: &str = "lea";
const BY_HAND: &str = "lea_stub";

/// ns of CPU time a call, by the number of threads.
type Samples = [Vec<f64>; THREADS.len()];

/// Measures and prints.
pub(crate) fn run(workshop: &Workshop, xol: &Xol, rounds: u32) -> Result<(), Error> {
    let program = workshop.target()?;
    let mut target = Responder::start(&program, &[])?;
    let (mut bare, mut by_hand, mut counted) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..rounds {
        measure(&mut target, FUNCTION, &mut bare)?;
        measure(&mut target, BY_HAND, &mut by_hand)?;
        let pristine = target.ask(&format!("code {FUNCTION}"))?;
        let probe = format!("{}:{FUNCTION}", program.display());
        let mut session = xol.start("stat", &[probe], target.pid(), &workshop.path("threads.jsonl"))?;
        session.armed(|| Ok(target.ask(&format!("code {FUNCTION}"))? != pristine))?;
        measure(&mut target, FUNCTION, &mut counted)?;
        let (report, _) = session.finish()?;
        let calls = CALLS * THREADS.map(u64::from).iter().sum::<u64>();
        let hits = report.hits_of(FUNCTION).unwrap_or(0);
        if hits != calls {
            return Err(Error::Inexact(format!("threads made {calls} calls, and {hits} were counted")));
        }
    }
    println!(
        "a count where threads hit one probe at once: ns of CPU time over the bare call, median of {rounds} rounds [quartiles]\n"
    );
    println!("{}", render(&bare, &by_hand, &counted));
    Ok(())
}

fn measure(target: &mut Responder, name: &str, samples: &mut Samples) -> Result<(), Error> {
    for (threads, samples) in THREADS.iter().zip(samples) {
        let [ns, _] = target.ask_numbers(&format!("runs {name} {CALLS} {threads}"))?;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53 nanoseconds and calls")]
        samples.push(ns as f64 / (CALLS * u64::from(*threads)) as f64);
    }
    Ok(())
}

fn render(bare: &Samples, by_hand: &Samples, counted: &Samples) -> String {
    let mut rows = vec![["threads", "stub by hand", "xol count", "ratio"].map(str::to_owned).to_vec()];
    for (index, threads) in THREADS.iter().enumerate() {
        let over = |with: &Samples| {
            let deltas: Vec<f64> =
                with[index].iter().zip(&bare[index]).map(|(with, bare)| with - bare).collect();
            Quartiles::of(&deltas)
        };
        let cell =
            |quartiles: Option<Quartiles>| quartiles.map_or_else(|| "-".to_owned(), |some| some.to_string());
        let (hand, ours) = (over(by_hand), over(counted));
        let ratio = ours.zip(hand).map(|(ours, hand)| format!("{:.2}", ours.median / hand.median));
        rows.push(vec![threads.to_string(), cell(hand), cell(ours), ratio.unwrap_or_default()]);
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::{Samples, render};

    #[test]
    fn the_table_shows_both_and_their_ratio() {
        let of = |ns: f64| -> Samples { [vec![ns; 3], vec![ns; 3], vec![ns; 3]] };
        let text = render(&of(2.0), &of(4.0), &of(3.0));
        assert!(text.contains("2.00 [2.00 2.00]  1.00 [1.00 1.00]   0.50"), "{text}");
    }
}
