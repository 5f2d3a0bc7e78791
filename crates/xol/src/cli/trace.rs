//! `xol trace`: a line per hit.

use std::time::Duration;

use xol::session::{Action, Hit, LostBy, SiteStatus, State};

use super::args::{SessionArgs, TraceArgs};
use super::failure::Failure;
use super::live::Live;
use super::session::{FLUSH, Limit, Surroundings, check_restored, conclude, print_summary, start};
use crate::show::flood::Flood;
use crate::show::hit_line::{Names, hit_line};
use crate::show::json::Line;
use crate::show::number::{counted, thousands};
use crate::show::stat_table;

pub(crate) fn run(args: &TraceArgs) -> Result<u8, Failure> {
    let (live, mut around) = start(&args.session, "trace", Action::Trace)?;
    follow(live, &args.session, &mut around)
}

/// Prints hits until something ends it, removes the probes whatever happened, prints the rest, waits for the command.
fn follow(mut live: Box<dyn Live>, args: &SessionArgs, around: &mut Surroundings) -> Result<u8, Failure> {
    let limit = Limit::new(args.duration);
    let sites = live.sites();
    if !args.output.json {
        stat_table::refused(&sites).iter().for_each(|line| around.notes.warn(line));
    }
    let mut printer = Printer::new(args, around, &sites, live.armed_at());
    let watched = printer.watch(&mut *live, &limit, around);
    let mut hits = Vec::new();
    let removed = live.remove(&mut |hit| hits.push(hit));
    let outcome = watched.and_then(|()| {
        let (sites, summary) = removed?;
        printer.update(&sites, around)?;
        printer.hits(&hits, limit.elapsed(), around)?;
        printer.end(around);
        print_summary(&summary, args.output.json, around)?;
        check_restored(&summary)
    });
    conclude(live, outcome)
}

/// Prints hits and losses.
struct Printer {
    json: bool,
    armed_at: u64,
    names: Names,
    /// Losses per site that are said already.
    lost: Vec<LostBy>,
    /// Lines that may still be printed.
    left: u64,
    /// Only a person at a terminal is spared lines, and only if no exact number was asked for.
    flood: Option<Flood>,
}

impl Printer {
    fn new(args: &SessionArgs, around: &Surroundings, sites: &[SiteStatus], armed_at: u64) -> Self {
        let is_read_live = around.output.terminal().is_some() && args.max_hits.is_none();
        Self {
            json: args.output.json,
            armed_at,
            names: Names::new(sites),
            lost: Vec::new(),
            left: args.max_hits.unwrap_or(u64::MAX),
            flood: is_read_live.then(Flood::default),
        }
    }

    fn watch(
        &mut self,
        live: &mut dyn Live,
        limit: &Limit,
        around: &mut Surroundings,
    ) -> Result<(), Failure> {
        let mut hits = Vec::new();
        let mut updated = Duration::ZERO;
        while self.left > 0 && !around.stop.requested() && !limit.is_over() {
            let state = live.poll(limit.wait(FLUSH), &mut |hit| hits.push(hit))?;
            around.warn(live.warnings());
            let now = limit.elapsed();
            // Looking at all sites is not free: now and then, and whenever one is new.
            let is_new = hits.iter().any(|hit| hit.site >= self.names.len());
            if is_new || now.saturating_sub(updated) >= FLUSH || state == State::Ended {
                self.update(&live.sites(), around)?;
                updated = now;
            }
            self.hits(&hits, now, around)?;
            hits.clear();
            around.output.flush()?;
            if state == State::Ended {
                break;
            }
        }
        Ok(())
    }

    /// Learns names, and tells of losses that are new.
    fn update(&mut self, sites: &[SiteStatus], around: &mut Surroundings) -> Result<(), Failure> {
        if sites.len() != self.names.len() {
            self.names = Names::new(sites);
        }
        self.lost.resize(sites.len(), LostBy::default());
        for (index, site) in sites.iter().enumerate() {
            let before = std::mem::replace(&mut self.lost[index], site.lost_by);
            for (reason, count) in new_losses(before, site.lost_by) {
                self.loss(index, count, reason, around)?;
            }
        }
        Ok(())
    }

    fn loss(&self, site: usize, count: u64, reason: &str, around: &mut Surroundings) -> Result<(), Failure> {
        if self.json {
            return around.output.json(&Line::Lost { probe: self.names.probe(site), count, reason });
        }
        let hits = counted(count, "hit");
        around.notes.warn(&format!("lost {hits} of {}: {reason}", self.names.label(site)));
        Ok(())
    }

    fn hits(&mut self, hits: &[Hit], now: Duration, around: &mut Surroundings) -> Result<(), Failure> {
        self.say_dropped(now, around);
        for hit in hits {
            if self.left == 0 {
                return Ok(());
            }
            self.left -= 1;
            if self.flood.as_mut().is_some_and(|flood| !flood.admit(now)) {
                continue;
            }
            match self.json {
                true => around.output.json(&Line::hit(hit, self.names.probe(hit.site)))?,
                false => around.output.line(&hit_line(hit, &self.names, self.armed_at))?,
            }
        }
        Ok(())
    }

    fn say_dropped(&mut self, now: Duration, around: &mut Surroundings) {
        if let Some(dropped) = self.flood.as_mut().and_then(|flood| flood.report(now)) {
            around.notes.warn(&format!("… dropped {} lines/s, use -o FILE", thousands(dropped)));
        }
    }

    fn end(&mut self, around: &mut Surroundings) {
        if let Some(dropped) = self.flood.as_mut().and_then(Flood::rest) {
            around.notes.warn(&format!("… dropped {}, use -o FILE", counted(dropped, "line")));
        }
    }
}

/// Reasons with what was lost for them since `before`.
fn new_losses(before: LostBy, now: LostBy) -> impl Iterator<Item = (&'static str, u64)> {
    let losses = [
        ("ring full", before.ring_full, now.ring_full),
        ("nested", before.nested, now.nested),
        ("abandoned", before.abandoned, now.abandoned),
        ("no slot", before.no_slot, now.no_slot),
    ];
    losses
        .into_iter()
        .filter(|(_, before, now)| now > before)
        .map(|(reason, before, now)| (reason, now - before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::cli::live::fake::{FakeSession, Step, site};
    use crate::cli::signals::StopRequest;
    use crate::show::output::capture::{Broken, Capture};
    use crate::show::output::{Notes, Output};
    use clap::Parser;
    use std::io::ErrorKind;
    use xol::session::Summary;

    fn hit(site: usize, number: u64) -> Hit {
        Hit { time_ns: 1_000_000_000 + number, pid: 7, tid: 8, site, args: [number, 0, 0, 0, 0, 0] }
    }

    fn session() -> FakeSession {
        let lost = LostBy { ring_full: 3, ..LostBy::default() };
        FakeSession {
            sites: vec![site("malloc", 16), site("free", 32)],
            steps: vec![
                Step { hits: vec![hit(0, 1), hit(1, 2)], ..Step::default() },
                Step { hits: vec![hit(0, 3)], lost: vec![lost, LostBy::default()], ..Step::default() },
            ],
            last_hits: vec![hit(1, 4)],
            summary: Summary { hits: 7, lost: 3, text_restored: true, ..Summary::default() },
            ..FakeSession::default()
        }
    }

    fn outcome(
        session: FakeSession,
        line: &str,
        writer: Box<dyn std::io::Write>,
    ) -> (Result<u8, Failure>, String) {
        let line = format!("xol trace x:y -p 7 {line}");
        let args = match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Some(Command::Trace(args)) => args.session,
            other => panic!("{other:?}"),
        };
        let err = Capture::default();
        let mut around = Surroundings {
            output: Output::to(writer, "FILE"),
            notes: Notes::to(Box::new(err.clone())),
            stop: StopRequest::default(),
            shares_terminal: false,
            said: 0,
        };
        (follow(Box::new(session), &args, &mut around), err.text())
    }

    fn printed(session: FakeSession, line: &str) -> (String, String) {
        let out = Capture::default();
        let (status, err) = outcome(session, line, Box::new(out.clone()));
        assert_eq!(status.unwrap(), 0);
        (out.text(), err)
    }

    #[test]
    fn a_line_per_hit_and_losses_on_the_side() {
        let (out, err) = printed(session(), "");
        let symbols: Vec<&str> = out.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
        assert_eq!(symbols, ["malloc", "free", "malloc", "free"]);
        assert!(err.starts_with("lost 3 hits of malloc: ring full\n"), "{err}");
    }

    #[test]
    fn json_has_losses_in_its_stream() {
        let (out, err) = printed(session(), "--json");
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let hits = lines.iter().filter(|line| line["type"] == "hit").count() as u64;
        let lost: u64 = lines.iter().filter_map(|line| line["count"].as_u64()).sum();
        let summary = lines.last().unwrap();
        assert_eq!((hits, lost), (4, 3));
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["hits"].as_u64().unwrap(), hits + lost);
        assert_eq!(err, "");
    }

    #[test]
    fn max_hits_is_exact() {
        for number in 1..=4 {
            let (out, _) = printed(session(), &format!("--max-hits {number}"));
            assert_eq!(out.lines().count(), number);
        }
    }

    #[test]
    fn a_site_that_appears_later_has_its_name() {
        let mut session = session();
        let third = site("realloc", 48);
        session.steps.push(Step { hits: vec![hit(2, 9)], ..Step::default() });
        // Known to the session from the start, not to the printer.
        let sites = session.sites.clone();
        session.sites.push(third);
        let mut printer = Printer {
            json: false,
            armed_at: 0,
            names: Names::new(&sites),
            lost: Vec::new(),
            left: u64::MAX,
            flood: None,
        };
        let out = Capture::default();
        let mut around = Surroundings {
            output: Output::to(Box::new(out.clone()), "FILE"),
            notes: Notes::to(Box::new(Capture::default())),
            stop: StopRequest::default(),
            shares_terminal: false,
            said: 0,
        };
        printer.watch(&mut session, &Limit::new(None), &mut around).unwrap();
        assert!(out.text().contains(" realloc arg0=0x9 (9)"), "{}", out.text());
    }

    #[test]
    fn output_that_fails_removes_the_probes() {
        for (kind, status) in [(ErrorKind::BrokenPipe, Ok(0)), (ErrorKind::StorageFull, Err(1))] {
            let session = FakeSession { endless: true, ..session() };
            let removed = session.removed.clone();
            let (result, _) = outcome(session, "", Box::new(Broken(kind)));
            assert_eq!(result.map_err(|failure| failure.status()), status);
            assert!(removed.get());
        }
    }

    #[test]
    fn only_new_losses_are_told() {
        let before = LostBy { ring_full: 1, nested: 2, ..LostBy::default() };
        let now = LostBy { ring_full: 1, nested: 5, abandoned: 1, no_slot: 0 };
        assert_eq!(new_losses(before, now).collect::<Vec<_>>(), [("nested", 3), ("abandoned", 1)]);
        assert_eq!(new_losses(now, before).count(), 0);
    }
}
