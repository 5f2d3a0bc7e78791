//! Progress bars for the work before the first stop: only on a terminal, and only when it takes a while.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use xol::session::Progress;

use super::number::counted;
use super::output::Notes;
use crate::cli::signals::StopRequest;

/// Work that is done sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(250);

/// Shows progress on standard error.
pub(crate) struct Bars {
    notes: Notes,
    stop: StopRequest,
    enabled: bool,
    phase: Option<Phase>,
}

struct Phase {
    what: String,
    total: u64,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Bars {
    /// Bars and notes if standard error is a terminal, else only notes; nothing if `quiet`.
    pub(crate) fn new(stop: &StopRequest, quiet: bool) -> Self {
        let enabled = !quiet && std::io::stderr().is_terminal();
        Self { notes: Notes::new(quiet), stop: stop.clone(), enabled, phase: None }
    }

    /// Takes the bar away.
    fn end_phase(&mut self) {
        if let Some(bar) = self.phase.take().and_then(|phase| phase.bar) {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn phase(&mut self, what: &str, total: u64) {
        self.end_phase();
        self.phase = Some(Phase { what: what.into(), total, since: Instant::now(), bar: None });
    }

    fn advance(&mut self, done: u64) {
        let enabled = self.enabled;
        let Some(phase) = &mut self.phase else { return };
        if enabled && phase.bar.is_none() && phase.since.elapsed() > PATIENCE {
            phase.bar = Some(bar(&phase.what, phase.total));
        }
        if let Some(bar) = &phase.bar {
            bar.set_position(done);
        }
    }

    fn note(&mut self, text: &str) {
        let notes = &mut self.notes;
        match self.phase.as_ref().and_then(|phase| phase.bar.as_ref()) {
            Some(bar) => bar.suspend(|| notes.note(text)),
            None => notes.note(text),
        }
    }

    fn found(&mut self, sites: usize, files: usize) {
        let text = format!("{} in {}", counted(sites as u64, "site"), counted(files as u64, "file"));
        self.note(&text);
    }

    fn done(&mut self) {
        self.end_phase();
    }

    fn cancelled(&self) -> bool {
        self.stop.requested()
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.end_phase();
    }
}

fn bar(what: &str, total: u64) -> ProgressBar {
    let (bar, template) = match total {
        0 => (ProgressBar::new_spinner(), "{msg} {spinner}"),
        _ => (ProgressBar::new(total), "{msg} [{bar:30}] {percent}%"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what.to_string());
    bar
}
