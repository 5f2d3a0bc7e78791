//! A running program and the line protocol with it (`programs/common.h`).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::PATIENCE;

/// One answer of a program: a word and its `key=value` fields.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// The first word.
    pub word: String,
    /// The fields behind it.
    pub fields: BTreeMap<String, String>,
}

impl Line {
    fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let word = words.next().unwrap_or_default().to_owned();
        let fields =
            words.filter_map(|field| field.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
        Self { word, fields: fields.collect() }
    }

    /// A field as a number, decimal or `0x`.
    ///
    /// # Panics
    /// It is not there or not a number.
    #[must_use]
    pub fn number(&self, key: &str) -> u64 {
        let text = self.fields.get(key).unwrap_or_else(|| panic!("no {key} in {self:?}"));
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.unwrap_or_else(|error| panic!("{key} of {self:?}: {error}"))
    }
}

/// A program under test, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Its first line.
    pub ready: Line,
}

impl Process {
    /// Starts a program of the protocol and waits until it is ready.
    #[must_use]
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::of_command(&mut command)
    }

    /// Starts a program of the protocol that may say `missing` instead of `ready`: the machine lacks what it shows.
    ///
    /// # Errors
    /// What is missing: a reason to skip.
    pub fn start_if_possible(program: &Path, arguments: &[&str]) -> Result<Self, String> {
        let mut process = Self::spawn(Command::new(program).args(arguments).stderr(Stdio::inherit()));
        process.ready = process.hear();
        match process.ready.word.as_str() {
            "ready" => Ok(process),
            _ => Err(format!("this machine does not offer it: {:?}", process.ready)),
        }
    }

    /// Starts a command that speaks the protocol, directly or through a child, and waits until it is ready.
    #[must_use]
    pub fn of_command(command: &mut Command) -> Self {
        let mut process = Self::spawn(command.stderr(Stdio::inherit()));
        process.wait_ready();
        process
    }

    /// Starts a command with its standard input and output on pipes, and waits for nothing.
    ///
    /// # Panics
    /// It cannot be executed.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, stdin, lines, ready: Line::default() }
    }

    /// Waits for the first line.
    ///
    /// # Panics
    /// It is another one, or does not come.
    pub fn wait_ready(&mut self) {
        self.ready = self.hear();
        assert_eq!(self.ready.word, "ready", "{:?}", self.ready);
    }

    /// The program's process id: what it said itself, else that of the process started here.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let said = self.ready.fields.get("pid").and_then(|pid| pid.parse().ok());
        said.unwrap_or_else(|| self.child.id())
    }

    /// The id of the process started here (of xol, when the program runs under it).
    #[must_use]
    pub fn child_id(&self) -> u32 {
        self.child.id()
    }

    /// An address from the first line.
    #[must_use]
    pub fn address(&self, name: &str) -> u64 {
        self.ready.number(name)
    }

    /// Sends a command and waits for the answer.
    pub fn ask(&mut self, command: &str) -> Line {
        self.tell(command);
        self.hear()
    }

    /// Sends a command.
    ///
    /// # Panics
    /// The program is gone.
    pub fn tell(&mut self, command: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        let sent = writeln!(stdin, "{command}").and_then(|()| stdin.flush());
        if let Err(error) = sent {
            panic!("cannot send `{command}`: {error}; the program's end: {:?}", self.child.try_wait());
        }
    }

    /// The next line.
    ///
    /// # Panics
    /// The program ended or is silent for [`PATIENCE`].
    pub fn hear(&mut self) -> Line {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Line::parse(&line),
            Err(RecvTimeoutError::Timeout) => panic!("no answer within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the program ended: {:?}", self.wait()),
        }
    }

    /// The remaining lines, up to the end of the output.
    pub fn remaining(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            lines.push(line);
        }
        lines
    }

    /// Asserts that the process has not ended.
    ///
    /// # Panics
    /// It has.
    pub fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("our child");
        assert!(ended.is_none(), "the program ended: {ended:?}");
    }

    /// Whether the process has ended, and how.
    ///
    /// # Panics
    /// Never: the child is ours.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// It does not come within [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of a process", || self.ended())
    }

    /// Ends the program politely and asserts that it ended well.
    ///
    /// # Panics
    /// It did not end with status 0.
    pub fn finish(mut self) {
        drop(self.stdin.take());
        let status = self.wait();
        assert!(status.success(), "the program ended with {status:?} (signal {:?})", status.signal());
    }

    /// Closes the program's standard input.
    pub fn close_stdin(&mut self) {
        drop(self.stdin.take());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// There is none within [`PATIENCE`].
pub fn wait_for<T>(what: &str, answer: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, answer).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain for {what}"))
}

/// Asks again and again until there is an answer or the time is over.
pub(crate) fn wait_within<T>(patience: Duration, mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        let now = answer();
        if now.is_some() || Instant::now() >= deadline {
            return now;
        }
        thread::sleep(Duration::from_millis(2));
    }
}
