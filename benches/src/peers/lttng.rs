//! LTTng-UST: a tracepoint compiled into the program, and a session that records it to a temporary folder.
//!
//! The session daemon is our own. Root's would be the machine's, in /run: as root all of this is done as another user, which
//! has a daemon of its own below `LTTNG_HOME`.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::probe::{Armed, Function, Kind, LIMIT, Probe, Setting};
use crate::error::Error;
use crate::responder::Responder;
use crate::{run, sys};

const SESSION: &str = "xol-bench";
const EVENT: &str = "xol_bench:hit";
/// What an event has at least: two arguments of 8 bytes.
const LEAST_BYTES: u64 = 16;
/// The user whose session it is, if we are root: `nobody`.
const NOBODY: u32 = 65_534;
/// How often we look whether the daemon is there.
const INTERVAL: Duration = Duration::from_millis(50);

/// The home of a session daemon, and who owns it.
struct Home {
    folder: TempDir,
    user: Option<u32>,
}

/// Our session daemon; ended when dropped.
struct Daemon {
    child: Child,
    home: Home,
}

struct Lttng {
    // In this order: the program first, then what it is registered with.
    target: Responder,
    daemon: Daemon,
}

/// Starts a daemon, a session and, registered with it, the program.
pub(super) fn arm(setting: &Setting, _: Function, _: Kind) -> Result<Armed, Error> {
    let version = version()?;
    let program = setting.workshop.traced_target()?;
    let daemon = Daemon::start(Home::new()?)?;
    let copy = daemon.home.path().join("traced");
    fs::copy(program, &copy).map_err(Error::io("copying the program"))?;
    let trace = format!("--output={}", daemon.home.path().join("trace").display());
    daemon.ask_until_it_is_there(&["create", SESSION, &trace])?;
    daemon.ask(&["enable-channel", "-u", "-s", SESSION, "--subbuf-size=2M", "--num-subbuf=4", "c"])?;
    daemon.ask(&["enable-event", "-u", "-s", SESSION, "-c", "c", EVENT])?;
    daemon.ask(&["start", SESSION])?;
    // A program waits at its start until its events are enabled.
    let target = Responder::spawn(&mut daemon.home.command(&copy))?;
    Ok(Armed { version, probe: Box::new(Lttng { target, daemon }) })
}

/// Of the library that the program is built with.
fn version() -> Result<String, Error> {
    let preprocess = ["-dM", "-E", "-include", "lttng/ust-version.h", "-x", "c", "/dev/null"];
    let definitions = run::output(Command::new("gcc").args(preprocess), LIMIT)
        .map_err(|_| Error::Missing("no lttng/ust-version.h: LTTng-UST is not installed".to_owned()))?;
    let version = definitions.lines().find_map(|line| line.strip_prefix("#define LTTNG_UST_VERSION "));
    Ok(version.unwrap_or("of unknown version").trim_matches('"').to_owned())
}

impl Probe for Lttng {
    fn target(&mut self) -> &mut Responder {
        &mut self.target
    }

    fn function(&self) -> Option<&'static str> {
        Some("traced")
    }

    /// LTTng says what was discarded; what was recorded must be as large as that many events.
    fn finish(self: Box<Self>, hits: u64) -> Result<u64, Error> {
        self.daemon.ask(&["stop", SESSION])?;
        let lost = discarded(&self.daemon.ask(&["list", SESSION])?)
            .ok_or_else(|| Error::Missing("`lttng list` does not say what was discarded".to_owned()))?;
        self.daemon.ask(&["destroy", SESSION])?;
        let kept = hits.saturating_sub(lost);
        let bytes = size(&self.daemon.home.path().join("trace")).map_err(Error::io("reading the trace"))?;
        match bytes >= kept * LEAST_BYTES {
            true => Ok(kept),
            false => Err(Error::Inexact(format!("LTTng recorded {bytes} bytes for {kept} events"))),
        }
    }
}

impl Home {
    fn new() -> Result<Self, Error> {
        let what = || Error::io("making a home for LTTng");
        let folder = tempfile::Builder::new().prefix("xol-lttng").tempdir().map_err(what())?;
        let user = sys::is_root().then_some(NOBODY);
        if user.is_some() {
            chown(folder.path(), user, user).map_err(what())?;
        }
        Ok(Self { folder, user })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A command of the home's user.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LTTNG_HOME", self.path()).env("HOME", self.path()).current_dir(self.path());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }
}

impl Daemon {
    fn start(home: Home) -> Result<Self, Error> {
        let child = home
            .command(Path::new("lttng-sessiond"))
            .arg("--quiet")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("starting lttng-sessiond"))?;
        Ok(Self { child, home })
    }

    fn ask(&self, words: &[&str]) -> Result<String, Error> {
        run::output(self.home.command(Path::new("lttng")).arg("--no-sessiond").args(words), LIMIT)
    }

    fn ask_until_it_is_there(&self, words: &[&str]) -> Result<String, Error> {
        let started = Instant::now();
        loop {
            match self.ask(words) {
                Err(Error::Command { .. }) if started.elapsed() < LIMIT => thread::sleep(INTERVAL),
                answer => return answer,
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It ends its own children (those that write the trace) on the way.
        let _ = sys::interrupt(&self.child);
        let _ = run::wait(&mut self.child, LIMIT, "the end of lttng-sessiond");
    }
}

/// The sum of all lines `Discarded events: N`.
fn discarded(listing: &str) -> Option<u64> {
    let numbers: Option<Vec<u64>> = listing
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Discarded events: "))
        .map(|number| number.trim().parse().ok())
        .collect();
    numbers.filter(|numbers| !numbers.is_empty()).map(|numbers| numbers.iter().sum())
}

/// The bytes of all files in a folder.
fn size(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::discarded;

    #[test]
    fn what_was_discarded_is_read() {
        assert_eq!(discarded("    Statistics:\n      Discarded events: 12\n"), Some(12));
        assert_eq!(discarded("Discarded events: 12\nDiscarded events: 1\n"), Some(13));
        assert_eq!(discarded("Discarded events: many\n"), None);
        assert_eq!(discarded(""), None);
    }
}
