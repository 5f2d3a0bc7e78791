//! Running xol, and what it reported.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::PATIENCE;
use crate::compile::profile_dir;
use crate::process::{Process, wait_for, wait_within};
use crate::snapshot::Watch;
use crate::sys::{Signal, send};

/// The xol under test.
///
/// # Panics
/// It is not there and cannot be built.
pub fn xol_binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(find_binary).clone()
}

fn find_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("XOL_BIN") {
        return path.into();
    }
    let profile = profile_dir();
    let binary = profile.join("xol");
    if !binary.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "-p", "xol"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo runs");
        assert!(status.success() && binary.exists(), "{} is missing and was not built", binary.display());
    }
    binary
}

/// A command line of xol, not started yet.
pub fn xol<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(xol_binary());
    command.args(arguments);
    command
}

/// An ordinary user that owns nothing.
const NOBODY: u32 = 65534;

/// A program run as an ordinary user without any privilege, by root.
pub fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    command.args(ids).args(["--clear-groups", "--inh-caps=-all"]).arg(program);
    command
}

/// A running xol, killed when dropped.
#[derive(Debug)]
pub struct Session {
    /// xol itself; with `-- CMD` its standard input and output are the command's.
    pub process: Process,
    files: TempDir,
}

impl Session {
    /// Starts xol with `--json -o FILE` and these arguments.
    #[must_use]
    pub fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        Self::with_files(Command::new(xol_binary()), arguments, files)
    }

    /// The same by a program that executes its arguments.
    #[must_use]
    pub fn start_by<S: AsRef<OsStr>>(launcher: &Path, arguments: impl IntoIterator<Item = S>) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(launcher);
        command.arg(xol_binary());
        Self::with_files(command, arguments, files)
    }

    /// The same as an ordinary user without any privilege, by root.
    ///
    /// # Panics
    /// The caller is not root.
    #[must_use]
    pub fn start_as_nobody<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        chown(files.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
        Self::with_files(as_nobody(&xol_binary()), arguments, files)
    }

    fn with_files<S: AsRef<OsStr>>(
        mut command: Command,
        arguments: impl IntoIterator<Item = S>,
        files: TempDir,
    ) -> Self {
        let mut arguments = arguments.into_iter();
        command.arg(arguments.next().expect("a verb"));
        command.args(["--json".as_ref(), "-o".as_ref(), files.path().join("out").as_os_str()]);
        command.args(arguments);
        Self::of_command(&mut command, files)
    }

    /// `xol stat PROBE... -p PID`.
    #[must_use]
    pub fn stat(probes: &[&str], pid: u32) -> Self {
        Self::on_process("stat", probes, pid)
    }

    /// `xol trace PROBE... -p PID`.
    #[must_use]
    pub fn trace(probes: &[&str], pid: u32) -> Self {
        Self::on_process("trace", probes, pid)
    }

    fn on_process(verb: &str, probes: &[&str], pid: u32) -> Self {
        let pid = pid.to_string();
        Self::start([&[verb], probes, &["-p", &pid]].concat())
    }

    fn of_command(command: &mut Command, files: TempDir) -> Self {
        let errors = File::create(files.path().join("err")).expect("a file of ours");
        Self { process: Process::spawn(command.stderr(errors)), files }
    }

    /// Waits until a probe is at every watched place.
    ///
    /// # Panics
    /// xol ends before, or it takes too long.
    pub fn wait_armed(&mut self, watch: &Watch) {
        if let Some(status) = self.ended_before_armed(watch) {
            panic!("xol ended with {status:?} before the probes were armed:\n{}", self.errors());
        }
    }

    /// Starts xol by `start`, once more where a loaded machine gave some thread no processor within the deadline of the
    /// stop: nothing was changed then. Waits until a probe is at every watched place.
    ///
    /// # Panics
    /// xol ends for another reason, or it takes too long.
    #[must_use]
    pub fn armed(watches: &[&Watch], start: impl Fn() -> Self) -> Self {
        wait_for("armed probes", || start().armed_at_once(watches))
    }

    /// Waits until a probe is at every watched place; `None` where a loaded machine gave some thread no processor within the
    /// deadline of the stop.
    ///
    /// # Panics
    /// xol ends for another reason, or it takes too long.
    #[must_use]
    pub fn armed_at_once(mut self, watches: &[&Watch]) -> Option<Self> {
        let ended = watches.iter().find_map(|watch| self.ended_before_armed(watch));
        let errors = self.errors();
        match ended {
            None => Some(self),
            Some(_) if errors.contains("did not stop within") => None,
            Some(status) => panic!("xol ended with {status:?} before the probes were armed:\n{errors}"),
        }
    }

    fn ended_before_armed(&mut self, watch: &Watch) -> Option<ExitStatus> {
        wait_within(PATIENCE, || {
            let ended = self.process.ended();
            (ended.is_some() || watch.is_armed()).then_some(ended)
        })
        .unwrap_or_else(|| {
            panic!("no probes at {:x?} after {PATIENCE:?}; xol says:\n{}", watch.unarmed(), self.errors())
        })
    }

    /// What xol has said of itself so far.
    #[must_use]
    pub fn errors(&self) -> String {
        fs::read_to_string(self.files.path().join("err")).unwrap_or_default()
    }

    /// What xol has written of its results so far.
    #[must_use]
    pub fn results(&self) -> String {
        fs::read_to_string(self.files.path().join("out")).unwrap_or_default()
    }

    /// Ctrl-C, and the report.
    #[must_use]
    pub fn end(self) -> Report {
        self.end_by(Signal::Interrupt)
    }

    /// A signal, and the report.
    #[must_use]
    pub fn end_by(self, signal: Signal) -> Report {
        send(self.process.child_id(), signal);
        self.wait()
    }

    /// Waits until xol ends by itself.
    #[must_use]
    pub fn wait(mut self) -> Report {
        let status = self.process.wait();
        let text = fs::read_to_string(self.files.path().join("out")).unwrap_or_default();
        Report::parse(status, self.errors(), &text)
    }
}

/// How xol ended and what it wrote.
#[derive(Debug)]
pub struct Report {
    /// Its end.
    pub status: ExitStatus,
    /// Its standard error.
    pub errors: String,
    /// Its JSON lines.
    pub lines: Vec<Value>,
}

impl Report {
    /// Takes JSON lines apart.
    ///
    /// # Panics
    /// A line is not a JSON object.
    #[must_use]
    pub fn parse(status: ExitStatus, errors: String, text: &str) -> Self {
        let parse = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(value) if value.is_object() => value,
            other => panic!("not a JSON object: {line}: {other:?}\n{errors}"),
        };
        let lines = text.lines().map(parse).collect();
        Self { status, errors, lines }
    }

    /// Runs a command of xol to its end and takes its standard output as JSON lines.
    ///
    /// # Panics
    /// It cannot be executed.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        let mut session = Session::of_command(command, files);
        let text = session.process.remaining().join("\n");
        let status = session.process.wait();
        Self::parse(status, session.errors(), &text)
    }

    /// The lines of one type.
    pub fn of_type<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["type"] == wanted)
    }

    /// The stat lines whose spec is `name` or ends with `:name`.
    pub fn stats<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.of_type("stat").filter(move |line| names(&line["spec"], name) || names(&line["probe"], name))
    }

    /// One number of the stat lines of a probe, summed over its sites.
    ///
    /// # Panics
    /// The probe is not there.
    #[must_use]
    pub fn sum(&self, name: &str, field: &str) -> u64 {
        let mut found = self.stats(name).map(|line| number(line, field)).peekable();
        assert!(found.peek().is_some(), "no stat line of {name}: {self:?}");
        found.sum()
    }

    /// Hits of a probe.
    #[must_use]
    pub fn hits(&self, name: &str) -> u64 {
        self.sum(name, "hits")
    }

    /// Lost hits of a probe.
    #[must_use]
    pub fn lost(&self, name: &str) -> u64 {
        self.sum(name, "lost")
    }

    /// Lost hits of all probes, by the summary.
    ///
    /// # Panics
    /// There is no summary.
    #[must_use]
    pub fn lost_in_all(&self) -> u64 {
        number(self.summary(), "lost")
    }

    /// How a probe was done.
    ///
    /// # Panics
    /// It is not there.
    #[must_use]
    pub fn mechanism(&self, name: &str) -> String {
        let line = self.stats(name).next().unwrap_or_else(|| panic!("no stat line of {name}: {self:?}"));
        line["mechanism"].as_str().expect("a word").to_owned()
    }

    /// The last line.
    ///
    /// # Panics
    /// It is not the summary.
    #[must_use]
    pub fn summary(&self) -> &Value {
        let last = self
            .lines
            .last()
            .unwrap_or_else(|| panic!("nothing written; status {:?}:\n{}", self.status, self.errors));
        assert_eq!(last["type"], "summary", "the summary is the last line, always: {self:?}");
        last
    }

    /// The traced hits, in the order given.
    #[must_use]
    pub fn traced(&self) -> Vec<&Value> {
        self.of_type("hit").collect()
    }

    /// Asserts that nothing went wrong and nothing was left: status 0, text restored, no loss unless allowed for.
    ///
    /// # Panics
    /// Otherwise.
    pub fn assert_clean(&self) {
        assert!(self.status.success(), "xol ended with {:?}:\n{}", self.status, self.errors);
        assert_eq!(self.summary()["text_restored"], true, "{self:?}");
        self.assert_no_panic();
    }

    /// Asserts that xol failed in the way of an error, with a message that has all these words in any case.
    ///
    /// # Panics
    /// Otherwise.
    pub fn assert_error(&self, status: i32, words: &[&str]) {
        self.assert_no_panic();
        assert_eq!(self.status.code(), Some(status), "{self:?}");
        let said = self.errors.to_lowercase();
        for word in words {
            assert!(
                said.contains(&word.to_lowercase()),
                "the message says nothing of `{word}`:\n{}",
                self.errors
            );
        }
    }

    /// Asserts that xol did not panic.
    ///
    /// # Panics
    /// It did.
    pub fn assert_no_panic(&self) {
        let panicked = self.errors.contains("panicked at") || self.status.code() == Some(101);
        assert!(!panicked, "xol panicked:\n{}", self.errors);
    }
}

fn names(field: &Value, name: &str) -> bool {
    let Some(text) = field.as_str() else { return false };
    text == name || text.strip_suffix(name).is_some_and(|rest| rest.ends_with(':'))
}

/// A number of a JSON line.
fn number(line: &Value, field: &str) -> u64 {
    line[field].as_u64().unwrap_or_else(|| panic!("{field} is not a count in {line}"))
}
