//! What `stat` and `trace` do around their loops: options in, removal and exit status out.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use xol::remote::{self, RemoteSession};
use xol::session::{Action, Options, Session, Summary, Target};

use super::args::SessionArgs;
use super::failure::Failure;
use super::live::Live;
use super::signals::StopRequest;
use crate::show::json::Line;
use crate::show::output::{Notes, Output};
use crate::show::progress::Bars;
use crate::show::summary;

/// Results are shown this often at least: the contract's bound on the order of hits between threads.
pub(crate) const FLUSH: Duration = Duration::from_millis(100);

/// Where a command's words go, and what may end it early.
pub(crate) struct Surroundings {
    pub(crate) output: Output,
    pub(crate) notes: Notes,
    pub(crate) stop: StopRequest,
    /// Whether the command of `-- CMD` writes to our terminal too.
    pub(crate) shares_terminal: bool,
    /// How many of the session's warnings are said already.
    pub(crate) said: usize,
}

impl Surroundings {
    /// Says what is new of the session's warnings: each is said once, when it is known.
    pub(crate) fn warn(&mut self, warnings: &[String]) {
        for warning in warnings.get(self.said..).unwrap_or_default() {
            self.notes.warn(&summary::warning(warning));
        }
        self.said = self.said.max(warnings.len());
    }
}

/// Checks the arguments, opens the output, arms the probes.
pub(crate) fn start(
    args: &SessionArgs,
    verb: &'static str,
    action: Action,
) -> Result<(Box<dyn Live>, Surroundings), Failure> {
    args.check()?;
    if let Some(place) = args.place(verb)? {
        let output = Output::open(args.output.output.as_deref())?;
        let notes = Notes::new(args.output.quiet);
        let stop = StopRequest::on_signals()?;
        let options = remote::Options { place, specs: args.probes.clone(), action };
        let session = RemoteSession::start(&options)?;
        return Ok((
            Box::new(session),
            Surroundings { output, notes, stop, shares_terminal: false, said: 0 },
        ));
    }
    let target = args.target(verb)?;
    let output = Output::open(args.output.output.as_deref())?;
    let notes = Notes::new(args.output.quiet);
    let stop = StopRequest::on_signals()?;
    let shares_terminal = matches!(target, Target::Spawn(_));
    let options = Options {
        target,
        specs: args.probes.clone(),
        action,
        follow: args.follow,
        inject_freely: args.inject_freely,
        max_rate: args.max_rate,
    };
    let mut bars = Bars::new(&stop, args.output.quiet);
    let mut session = Session::start(options, &mut bars)?;
    session.show_progress(Box::new(bars));
    Ok((Box::new(session), Surroundings { output, notes, stop, shares_terminal, said: 0 }))
}

/// When a session is over, other than by its target's end.
#[derive(Debug)]
pub(crate) struct Limit {
    armed: Instant,
    duration: Option<Duration>,
}

impl Limit {
    /// Starts the clock.
    pub(crate) fn new(duration: Option<Duration>) -> Self {
        Self { armed: Instant::now(), duration }
    }

    /// Since all probes were armed.
    pub(crate) fn elapsed(&self) -> Duration {
        self.armed.elapsed()
    }

    /// Whether the time is up.
    pub(crate) fn is_over(&self) -> bool {
        self.duration.is_some_and(|duration| self.elapsed() >= duration)
    }

    /// How long the next wait may be: until the end, or `at_most`.
    pub(crate) fn wait(&self, at_most: Duration) -> Duration {
        self.duration.map_or(at_most, |duration| duration.saturating_sub(self.elapsed()).min(at_most))
    }
}

/// The last words of a session whose probes are removed.
pub(crate) fn print_summary(summary: &Summary, json: bool, around: &mut Surroundings) -> Result<(), Failure> {
    // On a terminal results and notes meet: what came first stands first.
    around.output.flush()?;
    around.warn(&summary.warnings);
    if let Some(what) = summary::remains(summary) {
        around.notes.warn(&what);
    }
    if json {
        around.output.json(&Line::from(summary))?;
    } else {
        around.notes.note(&summary::sentence(summary));
    }
    around.output.flush()
}

/// Waits for the command, if there is one, and gives the exit status. `outcome` is how the rest went.
///
/// A failure of xol itself is status 1 even if the command went well: its user asked for results.
pub(crate) fn conclude(live: Box<dyn Live>, outcome: Result<(), Failure>) -> Result<u8, Failure> {
    let command = live.wait();
    match outcome {
        Ok(()) | Err(Failure::ClosedPipe) => Ok(command?.map_or(0, status_of)),
        Err(failure) => Err(failure),
    }
}

/// As a shell reports it: the exit code, or 128 + the number of the signal that killed it.
fn status_of(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(1)
}

/// Text that is not as before is a failure, once everything else is said.
pub(crate) fn check_restored(summary: &Summary) -> Result<(), Failure> {
    if summary.text_restored { Ok(()) } else { Err(Failure::NotRestored) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::live::fake::FakeSession;

    fn conclude_with(command: Option<i32>, outcome: Result<(), Failure>) -> Result<u8, Failure> {
        let fake = FakeSession { command: command.map(ExitStatus::from_raw), ..FakeSession::default() };
        fake.removed.set(true);
        conclude(Box::new(fake), outcome)
    }

    #[test]
    fn the_status_is_the_commands() {
        assert_eq!(conclude_with(None, Ok(())).unwrap(), 0);
        assert_eq!(conclude_with(Some(3 << 8), Ok(())).unwrap(), 3);
        assert_eq!(conclude_with(Some(9), Ok(())).unwrap(), 137);
        assert_eq!(conclude_with(Some(11 | 0x80), Ok(())).unwrap(), 139, "with a core dump");
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_end_and_other_failures_are_not() {
        assert_eq!(conclude_with(Some(3 << 8), Err(Failure::ClosedPipe)).unwrap(), 3);
        assert_eq!(conclude_with(Some(0), Err(Failure::NotRestored)).unwrap_err().status(), 1);
    }

    #[test]
    fn waits_end_with_the_session() {
        let limit = Limit::new(Some(Duration::ZERO));
        assert!(limit.is_over());
        assert_eq!(limit.wait(FLUSH), Duration::ZERO);
        let endless = Limit::new(None);
        assert!(!endless.is_over());
        assert_eq!(endless.wait(FLUSH), FLUSH);
    }
}
