//! What it costs a program to be attached to, no probe ever hit: per signal, thread, fork, exec, library and exit, and a
//! server's throughput. Elapsed time, since the tracer works while the program waits.

use std::path::Path;
use std::time::Duration;

use crate::compile::Workshop;
use crate::error::Error;
use crate::responder::Responder;
use crate::session::{Session, Xol};
use crate::stats::{Quartiles, figure, table};

/// What is done, how often in a round, and what to call it.
const DEEDS: [(&str, u32, &str); 5] = [
    ("signal", 5_000, "signal delivered"),
    ("thread", 1_000, "thread created and joined"),
    ("fork", 200, "fork, exit, wait"),
    ("spawn", 100, "posix_spawn, exec, exit, wait"),
    ("dlopen", 200, "dlopen and dlclose"),
];
/// Threads of the program whose exit is timed.
const CROWD: u32 = 32;
/// How long the server serves in a round.
const SERVES: Duration = Duration::from_secs(2);

/// Samples without and with xol.
#[derive(Default)]
struct Pair {
    alone: Vec<f64>,
    attached: Vec<f64>,
}

impl Pair {
    fn push(&mut self, is_attached: bool, sample: f64) {
        if is_attached { &mut self.attached } else { &mut self.alone }.push(sample);
    }
}

/// Measures and prints.
pub(crate) fn run(workshop: &Workshop, xol: &Xol, rounds: u32) -> Result<(), Error> {
    let program = workshop.attached()?;
    let library = workshop.many_library(10)?;
    let mut deeds: Vec<Pair> = DEEDS.iter().map(|_| Pair::default()).collect();
    let mut exits = Pair::default();
    // Alternating, so that what the machine does meanwhile hits both alike.
    for round in 0..2 * rounds {
        let is_attached = round % 2 == 1;
        let mut target = Responder::start(&program, &[&library])?;
        let session = is_attached.then(|| attach(workshop, xol, &program, &mut target)).transpose()?;
        for ((deed, count, _), pair) in DEEDS.iter().zip(&mut deeds) {
            let [nanoseconds] = target.ask_numbers(&format!("{deed} {count}"))?;
            pair.push(is_attached, per(nanoseconds, *count));
        }
        if let Some(session) = session {
            session.finish()?;
        }
        exits.push(is_attached, exit(workshop, xol, &program, is_attached)?);
    }
    println!("{}", render(&deeds, &exits, rounds));
    server(workshop, xol, rounds)
}

/// Microseconds for each of `count`.
#[allow(clippy::cast_precision_loss, reason = "far below 2^53 nanoseconds")]
fn per(nanoseconds: u64, count: u32) -> f64 {
    nanoseconds as f64 / f64::from(count) / 1e3
}

fn attach(workshop: &Workshop, xol: &Xol, program: &Path, target: &mut Responder) -> Result<Session, Error> {
    let probe = format!("{}:never", program.display());
    let mut session = xol.start("stat", &[probe], target.pid(), &workshop.path("attached.out"))?;
    session.armed(|| Ok(target.ask_numbers("armed")? == [1]))?;
    Ok(session)
}

/// Microseconds from the wish to end to the end, of a program with many threads.
fn exit(workshop: &Workshop, xol: &Xol, program: &Path, is_attached: bool) -> Result<f64, Error> {
    let mut target = Responder::start(program, &[])?;
    target.ask_numbers::<1>(&format!("crowd {CROWD}"))?;
    let session = is_attached.then(|| attach(workshop, xol, program, &mut target)).transpose()?;
    let took = target.end("exit")?;
    if let Some(session) = session {
        session.wait()?;
    }
    Ok(took.as_secs_f64() * 1e6)
}

fn render(deeds: &[Pair], exits: &Pair, rounds: u32) -> String {
    let heading = ["", "alone, us", "attached, us", "difference, us"].map(str::to_owned).to_vec();
    let exit = format!("exit of {CROWD} threads");
    let named = DEEDS.iter().map(|(_, _, name)| *name).zip(deeds).chain([(exit.as_str(), exits)]);
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(named.map(row)).collect();
    format!(
        "attached, no probe hit: medians of {rounds} rounds [quartiles], elapsed time\n\n{}",
        table(&rows)
    )
}

fn row((name, pair): (&str, &Pair)) -> Vec<String> {
    let shown = |samples: &[f64]| Quartiles::of(samples).map_or_else(|| "-".to_owned(), |q| q.to_string());
    let difference = match (Quartiles::of(&pair.alone), Quartiles::of(&pair.attached)) {
        (Some(alone), Some(attached)) => figure(attached.median - alone.median),
        _ => "-".to_owned(),
    };
    vec![name.to_owned(), shown(&pair.alone), shown(&pair.attached), difference]
}

/// A Go server's requests per second, with the preemption signals that its runtime sends by default.
fn server(workshop: &Workshop, xol: &Xol, rounds: u32) -> Result<(), Error> {
    let Some(program) = workshop.server()? else {
        println!("skipped: the Go server's throughput (no Go compiler here)");
        return Ok(());
    };
    let mut pair = Pair::default();
    for round in 0..2 * rounds.min(5) {
        let is_attached = round % 2 == 1;
        let mut target = Responder::start(&program, &[])?;
        let session = is_attached.then(|| serve_attached(workshop, xol, &program, &target)).transpose()?;
        let [served] = target.ask_numbers(&SERVES.as_millis().to_string())?;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53 requests")]
        pair.push(is_attached, served as f64 / SERVES.as_secs_f64());
        if let Some(session) = session {
            session.finish()?;
        }
    }
    let heading = ["", "alone", "attached", "difference"].map(str::to_owned).to_vec();
    println!("{}", table(&[heading, row(("Go server, requests/s", &pair))]));
    Ok(())
}

fn serve_attached(
    workshop: &Workshop,
    xol: &Xol,
    program: &Path,
    target: &Responder,
) -> Result<Session, Error> {
    let probe = format!("{}:main.never", program.display());
    let mut session = xol.start("stat", &[probe], target.pid(), &workshop.path("server.out"))?;
    // The area shows that it is attached; that its only probe is armed a moment later does not matter.
    let maps = format!("/proc/{}/maps", target.pid());
    session.armed(|| Ok(std::fs::read_to_string(&maps).is_ok_and(|text| text.contains("/memfd:xol "))))?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_does_every_deed() {
        let workshop = Workshop::new().unwrap();
        let library = workshop.many_library(3).unwrap();
        let mut target = Responder::start(&workshop.attached().unwrap(), &[&library]).unwrap();
        for (deed, _, _) in DEEDS {
            let [nanoseconds] = target.ask_numbers(&format!("{deed} 3")).unwrap();
            assert!(nanoseconds > 0, "{deed}");
        }
        assert_eq!(target.ask_numbers("armed").unwrap(), [0]);
        assert_eq!(target.ask_numbers("crowd 2").unwrap(), [0]);
        assert!(target.end("exit").is_ok());
    }

    #[test]
    fn differences_are_of_medians() {
        let pair = Pair { alone: vec![1.0, 2.0, 3.0], attached: vec![10.0, 5.0, 7.0] };
        assert_eq!(row(("x", &pair)), ["x", "2.00 [1.50 2.50]", "7.00 [6.00 8.50]", "5.00"]);
        assert_eq!(row(("x", &Pair::default())), ["x", "-", "-", "-"]);
    }
}
