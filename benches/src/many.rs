//! Many sites at once: all functions of a generated library, armed, counted and removed by one `xol stat`.

use crate::compile::Workshop;
use crate::error::Error;
use crate::responder::Responder;
use crate::session::{Report, Xol};
use crate::stats::{Quartiles, table};

/// How often each function is called while probed.
const CALLS: u64 = 10;

/// What one round gave, in milliseconds.
struct Round {
    armed: f64,
    removed: f64,
    stopped: f64,
    longest_stop: f64,
}

/// Measures and prints.
pub(crate) fn run(workshop: &Workshop, xol: &Xol, sites: u32, rounds: u32) -> Result<(), Error> {
    let library = workshop.many_library(sites)?;
    let mut host = Responder::start(&workshop.many_host()?, &[&library])?;
    let probe = format!("{}:site_*", library.display());
    let results = workshop.path("many.jsonl");
    let mut done = Vec::new();
    let mut outcome = Ok(());
    for _ in 0..rounds {
        match round(&mut host, xol, &probe, &results, u64::from(sites)) {
            Ok(round) => done.push(round),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    println!("{}", render(sites, &done));
    if let Err(error) = &outcome {
        println!("not measured: xol: {error}\n");
    }
    outcome
}

fn round(
    host: &mut Responder,
    xol: &Xol,
    probe: &str,
    results: &std::path::Path,
    sites: u64,
) -> Result<Round, Error> {
    let [unprobed] = host.ask_numbers(&format!("call {CALLS}"))?;
    let mut session = xol.start("stat", &[probe.to_owned()], host.pid(), results)?;
    let armed = session.armed(|| host.ask_numbers("changed").map(|[changed]| changed == sites))?;
    let [probed] = host.ask_numbers(&format!("call {CALLS}"))?;
    let (report, removed) = session.finish()?;
    let [changed] = host.ask_numbers("changed")?;
    check(&report, sites, changed)?;
    if probed != unprobed {
        return Err(Error::Inexact(format!("the program computed {probed} while probed, {unprobed} before")));
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53 microseconds")]
    let milliseconds = |microseconds: u64| microseconds as f64 / 1e3;
    Ok(Round {
        armed: armed.as_secs_f64() * 1e3,
        removed: removed.as_secs_f64() * 1e3,
        stopped: milliseconds(report.summary.stopped_us),
        longest_stop: milliseconds(report.summary.longest_stop_us),
    })
}

/// Every site counted every call, nothing was lost, and the text is as it was.
fn check(report: &Report, sites: u64, changed: u64) -> Result<(), Error> {
    let inexact = |what: String| Err(Error::Inexact(what));
    if report.sites.len() as u64 != sites {
        return inexact(format!("{} sites of {sites}", report.sites.len()));
    }
    if let Some(site) = report.sites.iter().find(|site| site.hits != CALLS || site.lost != 0) {
        return inexact(format!("{}: {} hits and {} lost of {CALLS}", site.probe, site.hits, site.lost));
    }
    if changed != 0 || !report.summary.text_restored {
        return inexact(format!("{changed} functions are still changed"));
    }
    Ok(())
}

fn render(sites: u32, rounds: &[Round]) -> String {
    let of = |figure: fn(&Round) -> f64| {
        let samples: Vec<f64> = rounds.iter().map(figure).collect();
        Quartiles::of(&samples).map_or_else(|| "-".to_owned(), |quartiles| quartiles.to_string())
    };
    let row = |name: &str, figure: String| vec![name.to_owned(), figure];
    let rows = [
        row("", "ms".to_owned()),
        row("from start to armed", of(|round| round.armed)),
        row("from Ctrl-C to the end", of(|round| round.removed)),
        row("target stopped, in all", of(|round| round.stopped)),
        row("longest stop", of(|round| round.longest_stop)),
    ];
    format!(
        "{sites} sites at once: median of {} rounds [quartiles], every count exact\n\n{}",
        rounds.len(),
        table(&rows)
    )
}

#[cfg(test)]
mod tests {
    use super::{CALLS, Round, check, render};
    use crate::compile::Workshop;
    use crate::responder::Responder;
    use crate::session::{Report, Site, Summary};

    fn report(hits: u64, text_restored: bool) -> Report {
        let site =
            |name: &str, hits| Site { probe: name.to_owned(), mechanism: "jump".to_owned(), hits, lost: 0 };
        Report {
            sites: vec![site("a", CALLS), site("b", hits)],
            hit_lines: 0,
            summary: Summary { text_restored, ..Summary::default() },
        }
    }

    #[test]
    fn whatever_is_not_exact_is_an_error() {
        assert!(check(&report(CALLS, true), 2, 0).is_ok());
        assert!(check(&report(CALLS - 1, true), 2, 0).is_err());
        assert!(check(&report(CALLS, false), 2, 0).is_err());
        assert!(check(&report(CALLS, true), 2, 1).is_err());
        assert!(check(&report(CALLS, true), 3, 0).is_err());
    }

    #[test]
    fn the_host_counts_and_calls() {
        let workshop = Workshop::new().unwrap();
        let library = workshop.many_library(24).unwrap();
        let mut host = Responder::start(&workshop.many_host().unwrap(), &[&library]).unwrap();
        assert_eq!(host.ask_numbers("changed").unwrap(), [0]);
        let [once] = host.ask_numbers("call 1").unwrap();
        let [again] = host.ask_numbers("call 1").unwrap();
        assert_eq!(once, again);
        assert_ne!(once, 0);
    }

    #[test]
    fn figures_are_shown_or_missing() {
        let round = Round { armed: 420.0, removed: 30.0, stopped: 1.25, longest_stop: 0.5 };
        let text = render(10_000, &[round]);
        let row = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).map(|line| line[name.len()..].trim());
            line.unwrap_or_default().to_owned()
        };
        assert_eq!(row(&text, "from start to armed"), "420 [420 420]");
        assert_eq!(row(&text, "target stopped, in all"), "1.25 [1.25 1.25]");
        assert_eq!(row(&render(10_000, &[]), "longest stop"), "-");
    }
}
