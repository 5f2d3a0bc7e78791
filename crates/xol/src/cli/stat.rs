//! `xol stat`: count hits.

use std::time::Duration;

use xol::session::{Action, SiteStatus, State};

use super::args::StatArgs;
use super::failure::Failure;
use super::live::Live;
use super::session::{FLUSH, Limit, Surroundings, check_restored, conclude, print_summary, start};
use crate::show::json::{Interval, Line};
use crate::show::number::{per_second, seconds};
use crate::show::screen::Screen;
use crate::show::stat_table::{self, Row, Style};

/// The table on a terminal is drawn this often.
const REFRESH: Duration = Duration::from_millis(500);

pub(crate) fn run(args: &StatArgs) -> Result<u8, Failure> {
    let (live, mut around) = start(&args.session, "stat", Action::Count)?;
    count(live, args, &mut around)
}

/// Counts until something ends it, removes the probes whatever happened, prints, and waits for the command.
fn count(mut live: Box<dyn Live>, args: &StatArgs, around: &mut Surroundings) -> Result<u8, Failure> {
    let limit = Limit::new(args.session.duration);
    let mut view = View::new(args, around);
    let watched = view.watch(&mut *live, &limit, around);
    let elapsed = limit.elapsed();
    let removed = live.remove(&mut |_| {});
    view.clear();
    let outcome = watched.and_then(|()| {
        let (sites, summary) = removed?;
        view.last_interval(&sites, elapsed, around)?;
        print_end(&sites, elapsed, args, around)?;
        print_summary(&summary, args.session.output.json, around)?;
        check_restored(&summary)
    });
    conclude(live, outcome)
}

/// What is shown while the session runs.
struct View<'a> {
    args: &'a StatArgs,
    screen: Option<Screen>,
    /// When something is shown next, and every how much.
    due: Duration,
    every: Option<Duration>,
    /// Hits and losses per site when something was shown last, and when that was.
    shown: Vec<(u64, u64)>,
    shown_at: Duration,
}

impl<'a> View<'a> {
    fn new(args: &'a StatArgs, around: &Surroundings) -> Self {
        // A command that shares the terminal would write into the middle of the table.
        let refreshes = args.interval.is_none() && !args.session.output.json && !around.shares_terminal;
        let screen = around.output.terminal().filter(|_| refreshes).map(|_| Screen::new());
        let every = args.interval.or_else(|| screen.as_ref().map(|_| REFRESH));
        Self {
            args,
            screen,
            due: every.unwrap_or_default(),
            every,
            shown: Vec::new(),
            shown_at: Duration::ZERO,
        }
    }

    /// Waits for the end, showing what is to be shown meanwhile.
    fn watch(
        &mut self,
        live: &mut dyn Live,
        limit: &Limit,
        around: &mut Surroundings,
    ) -> Result<(), Failure> {
        let max_hits = self.args.session.max_hits;
        while !around.stop.requested() && !limit.is_over() {
            let at_most = if max_hits.is_some() { FLUSH / 10 } else { FLUSH };
            let timeout = limit.wait(at_most).min(self.until_due(limit.elapsed()));
            let state = live.poll(timeout, &mut |_| {})?;
            self.warn(live.warnings(), around);
            if state == State::Ended {
                break;
            }
            let hits = || live.sites().iter().map(|site| site.hits).fold(0, u64::saturating_add);
            if max_hits.is_some_and(|max| hits() >= max) {
                break;
            }
            self.show_if_due(live, limit.elapsed(), around)?;
        }
        Ok(())
    }

    /// Warnings do not get into the middle of the table: that is drawn anew below them.
    fn warn(&mut self, warnings: &[String], around: &mut Surroundings) {
        if warnings.len() > around.said {
            self.clear();
            around.warn(warnings);
        }
    }

    fn until_due(&self, now: Duration) -> Duration {
        self.every.map_or(Duration::MAX, |_| self.due.saturating_sub(now))
    }

    fn show_if_due(
        &mut self,
        live: &dyn Live,
        now: Duration,
        around: &mut Surroundings,
    ) -> Result<(), Failure> {
        let Some(every) = self.every.filter(|_| now >= self.due) else { return Ok(()) };
        // What was missed (xol itself was stopped, say) is not made up for.
        while self.due <= now {
            self.due += every;
        }
        let sites = live.sites();
        match &mut self.screen {
            Some(_) => self.draw(&sites, now, around),
            None => self.interval(&sites, now, around)?,
        }
        self.remember(&sites, now);
        Ok(())
    }

    fn draw(&mut self, sites: &[SiteStatus], now: Duration, around: &Surroundings) {
        let colours = around.output.colours();
        let rates = self.deltas(sites).map(|(hits, _)| per_second(hits, now.saturating_sub(self.shown_at)));
        let rows = sites.iter().zip(rates).map(|(site, rate)| Row::new(site, rate)).collect();
        let Some(screen) = &mut self.screen else { return };
        let (height, width) = screen.size();
        let style = style(self.args, Some(width), Some(height), colours);
        screen.draw(&stat_table::table(rows, &style));
    }

    /// One interval's block of lines.
    fn interval(
        &self,
        sites: &[SiteStatus],
        now: Duration,
        around: &mut Surroundings,
    ) -> Result<(), Failure> {
        let passed = now.saturating_sub(self.shown_at);
        let deltas = sites.iter().zip(self.deltas(sites));
        if self.args.session.output.json {
            let elapsed = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
            for (site, (hits, lost)) in deltas {
                let line = Interval { elapsed, probe: &site.probe, pid: site.pid, hits, lost };
                around.output.json(&Line::Interval(line))?;
            }
        } else {
            let rows = deltas.filter(|(_, counts)| *counts != (0, 0)).map(|(site, (hits, lost))| Row {
                hits,
                lost,
                ..Row::new(site, per_second(hits, passed))
            });
            let style = style(self.args, around.output.width(), None, around.output.colours());
            let lines = stat_table::table(rows.collect(), &style);
            around
                .output
                .line(&format!("after {} s", seconds(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))))?;
            around.output.lines(&lines)?;
        }
        around.output.flush()
    }

    /// What came in since the last interval, so that the intervals add up to the end's counts.
    fn last_interval(
        &self,
        sites: &[SiteStatus],
        now: Duration,
        around: &mut Surroundings,
    ) -> Result<(), Failure> {
        let is_new = self.args.interval.is_some() && self.deltas(sites).any(|counts| counts != (0, 0));
        if is_new { self.interval(sites, now, around) } else { Ok(()) }
    }

    /// Hits and losses of each site since something was shown. Sites are only ever added at the end.
    fn deltas(&self, sites: &[SiteStatus]) -> impl Iterator<Item = (u64, u64)> {
        sites.iter().enumerate().map(|(index, site)| {
            let (hits, lost) = self.shown.get(index).copied().unwrap_or_default();
            (site.hits.saturating_sub(hits), site.lost.saturating_sub(lost))
        })
    }

    fn remember(&mut self, sites: &[SiteStatus], now: Duration) {
        self.shown = sites.iter().map(|site| (site.hits, site.lost)).collect();
        self.shown_at = now;
    }

    fn clear(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.clear();
        }
    }
}

fn style(args: &StatArgs, width: Option<usize>, height: Option<usize>, colours: bool) -> Style {
    Style { sort: args.sort, top: args.top, width, height, colours }
}

/// The final counts.
fn print_end(
    sites: &[SiteStatus],
    elapsed: Duration,
    args: &StatArgs,
    around: &mut Surroundings,
) -> Result<(), Failure> {
    if args.session.output.json {
        return sites.iter().try_for_each(|site| around.output.json(&Line::from(site)));
    }
    let shown = sites.iter().filter(|site| site.mechanism != xol::session::Mechanism::Refused);
    let rows = shown.map(|site| Row::new(site, per_second(site.hits, elapsed))).collect();
    let style = style(args, around.output.width(), None, around.output.colours());
    around.output.lines(&stat_table::table(rows, &style))?;
    around.output.lines(&stat_table::refused(sites))?;
    around.output.flush()?;
    for line in stat_table::silent(sites) {
        around.notes.note(&line);
    }
    Ok(())
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

    fn args(line: &str) -> StatArgs {
        let line = format!("xol stat x:y -p 7 {line}");
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Some(Command::Stat(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    fn session() -> FakeSession {
        FakeSession {
            sites: vec![site("malloc", 16), site("free", 32)],
            steps: [(1, 0), (5, 2), (9, 2)]
                .map(|(a, b)| Step { counts: vec![a, b], ..Step::default() })
                .to_vec(),
            summary: Summary { jump: 2, hits: 11, text_restored: true, ..Summary::default() },
            ..FakeSession::default()
        }
    }

    fn surroundings(output: Box<dyn std::io::Write>, notes: &Capture) -> Surroundings {
        Surroundings {
            output: Output::to(output, "FILE"),
            notes: Notes::to(Box::new(notes.clone())),
            stop: StopRequest::default(),
            shares_terminal: false,
            said: 0,
        }
    }

    /// Status, standard output, standard error.
    fn outcome(session: FakeSession, line: &str) -> (u8, String, String) {
        let (out, err) = (Capture::default(), Capture::default());
        let mut around = surroundings(Box::new(out.clone()), &err);
        let status = count(Box::new(session), &args(line), &mut around).unwrap();
        (status, out.text(), err.text())
    }

    #[test]
    fn a_table_at_the_end_and_a_sentence_on_the_side() {
        let (status, out, err) = outcome(session(), "");
        assert_eq!(status, 0);
        assert_eq!(out.lines().count(), 3, "{out}");
        assert!(out.lines().nth(1).unwrap().trim_start().starts_with("9 "), "{out}");
        assert!(err.starts_with("11 hits at 2 sites (2 jump); "), "{err}");
    }

    #[test]
    fn json_ends_with_the_summary() {
        let (_, out, err) = outcome(session(), "--json");
        let types: Vec<String> = out
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().into()
            })
            .collect();
        assert_eq!(types, ["stat", "stat", "summary"]);
        assert_eq!(err, "");
    }

    #[test]
    fn max_hits_ends_it() {
        let endless = FakeSession { endless: true, ..session() };
        let (_, out, _) = outcome(endless, "--max-hits 7 --json");
        assert!(out.contains(r#""hits":5,"#), "{out}");
    }

    #[test]
    fn duration_ends_it() {
        let endless = FakeSession { endless: true, ..session() };
        assert_eq!(outcome(endless, "--duration 1ms").0, 0);
    }

    #[test]
    fn a_signal_ends_it() {
        let (out, err) = (Capture::default(), Capture::default());
        let mut around = surroundings(Box::new(out.clone()), &err);
        around.stop.request();
        let endless = FakeSession { endless: true, ..session() };
        assert_eq!(count(Box::new(endless), &args(""), &mut around).unwrap(), 0);
        assert!(out.text().contains("malloc"), "{}", out.text());
    }

    #[test]
    fn the_last_interval_makes_the_sum_right() {
        let (_, out, _) = outcome(session(), "--interval 1m --json");
        let sum: u64 = out
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["type"] == "interval")
            .map(|line| line["hits"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, 11, "{out}");
    }

    #[test]
    fn intervals_hold_what_is_new() {
        let args = args("--interval 1s");
        let (out, err) = (Capture::default(), Capture::default());
        let mut around = surroundings(Box::new(out.clone()), &err);
        let mut view = View::new(&args, &around);
        let mut live = session();
        for second in 1..=3 {
            live.poll(Duration::ZERO, &mut |_| {}).unwrap();
            view.show_if_due(&live, Duration::from_secs(second), &mut around).unwrap();
        }
        let hits: Vec<&str> = out
            .text()
            .leak()
            .lines()
            .filter(|line| line.ends_with(":malloc"))
            .map(|line| line.split_whitespace().next().unwrap())
            .collect();
        assert_eq!(hits, ["1", "4", "4"]);
    }

    #[test]
    fn results_that_cannot_be_written_are_a_failure_with_the_probes_removed() {
        let session = session();
        let removed = session.removed.clone();
        let mut around = surroundings(Box::new(Broken(ErrorKind::StorageFull)), &Capture::default());
        let failure = count(Box::new(session), &args(""), &mut around).unwrap_err();
        assert_eq!(failure.status(), 1);
        assert!(removed.get());
    }

    #[test]
    fn a_closed_pipe_ends_it_quietly() {
        let session = session();
        let removed = session.removed.clone();
        let err = Capture::default();
        let mut around = surroundings(Box::new(Broken(ErrorKind::BrokenPipe)), &err);
        assert_eq!(count(Box::new(session), &args("--json"), &mut around).unwrap(), 0);
        assert!(removed.get());
        assert_eq!(err.text(), "");
    }

    #[test]
    fn text_that_is_not_restored_is_a_failure() {
        let mut session = session();
        session.summary.text_restored = false;
        let out = Capture::default();
        let mut around = surroundings(Box::new(out.clone()), &Capture::default());
        let failure = count(Box::new(session), &args("--json"), &mut around).unwrap_err();
        assert_eq!(failure.status(), 1);
        assert!(out.text().contains(r#""text_restored":false"#));
    }
}
