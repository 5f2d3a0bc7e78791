//! A child process that answers one line to each line it is sent, with a limit on how long that may take.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::run;

/// How long an answer may take, batches of single-stepped calls included.
const LIMIT: Duration = Duration::from_secs(120);

/// How long a child that is not needed any more has to end by itself, and to end its own children.
const GRACE: Duration = Duration::from_secs(5);

/// The child; when dropped its input ends, and it is killed if it does not.
pub(crate) struct Responder {
    child: Child,
    /// `None` once it was told to end.
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Responder {
    /// Starts `program`.
    pub(crate) fn start(program: &Path, arguments: &[&Path]) -> Result<Self, Error> {
        Self::spawn(Command::new(program).args(arguments))
    }

    /// Starts a command, whose standard error stays as it was set.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self, Error> {
        let what = format!("starting {}", command.get_program().display());
        let what = || what.clone();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(Error::io(what()))?;
        let (Some(requests), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Protocol { request: what(), answer: "no pipes".to_owned() });
        };
        let (sender, answers) = mpsc::channel();
        // Reading has no time limit, receiving has; the thread ends with the child's output.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, requests: Some(requests), answers })
    }

    /// The child's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line and waits for the answer.
    pub(crate) fn ask(&mut self, request: &str) -> Result<String, Error> {
        self.send(request)?;
        self.hear(&format!("an answer to {request:?}"), LIMIT)
    }

    /// Waits for a line that comes unasked.
    pub(crate) fn hear(&mut self, what: &str, limit: Duration) -> Result<String, Error> {
        self.answers.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => Error::Deadline { what: what.to_owned(), limit },
            RecvTimeoutError::Disconnected => {
                Error::io(format!("waiting for {what}"))(io::ErrorKind::UnexpectedEof.into())
            }
        })
    }

    /// Sends a line upon which the child ends; the time until it has ended.
    pub(crate) fn end(mut self, request: &str) -> Result<Duration, Error> {
        let started = Instant::now();
        self.send(request)?;
        self.child.wait().map_err(Error::io("waiting for a child"))?;
        Ok(started.elapsed())
    }

    /// Closes its standard input, upon which it ends, and waits for that.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        let status = self.dismiss(LIMIT)?;
        match status.success() {
            true => Ok(()),
            false => Err(Error::Command { command: "a child".to_owned(), detail: status.to_string() }),
        }
    }

    fn dismiss(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        self.requests = None;
        run::wait(&mut self.child, limit, "the end of a child")
    }

    fn send(&mut self, request: &str) -> Result<(), Error> {
        let what = || format!("sending {request:?}");
        let gone = || Error::io(what())(io::ErrorKind::BrokenPipe.into());
        let requests = self.requests.as_mut().ok_or_else(gone)?;
        writeln!(requests, "{request}").map_err(Error::io(what()))
    }

    /// As `ask`, for an answer of `N` numbers.
    pub(crate) fn ask_numbers<const N: usize>(&mut self, request: &str) -> Result<[u64; N], Error> {
        let answer = self.ask(request)?;
        let numbers: Option<Vec<u64>> = answer.split(' ').map(|word| word.parse().ok()).collect();
        numbers
            .and_then(|numbers| numbers.try_into().ok())
            .ok_or_else(|| Error::Protocol { request: request.to_owned(), answer })
    }

    /// Where a function of the measured program is.
    pub(crate) fn address_of(&mut self, function: &str) -> Result<u64, Error> {
        let request = format!("code {function}");
        let answer = self.ask(&request)?;
        let address = answer.split(' ').next().and_then(|word| u64::from_str_radix(word, 16).ok());
        address.ok_or(Error::Protocol { request, answer })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.dismiss(GRACE);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::Responder;
    use crate::error::Error;

    #[test]
    fn lines_are_answered() {
        let mut responder = Responder::start(Path::new("cat"), &[]).unwrap();
        assert_eq!(responder.ask("hello there").unwrap(), "hello there");
        assert_eq!(responder.ask_numbers::<2>("12 34").unwrap(), [12, 34]);
        assert!(matches!(responder.ask_numbers::<2>("12"), Err(Error::Protocol { .. })));
        assert!(matches!(responder.ask_numbers::<1>("x"), Err(Error::Protocol { .. })));
    }

    #[test]
    fn a_child_ends_when_its_input_is_closed() {
        Responder::start(Path::new("cat"), &[]).unwrap().close().unwrap();
        let failing = Responder::spawn(Command::new("sh").args(["-c", "read line; exit 3"])).unwrap();
        assert!(matches!(failing.close(), Err(Error::Command { .. })));
    }

    #[test]
    fn a_child_that_ended_is_an_error() {
        let mut responder = Responder::start(Path::new("true"), &[]).unwrap();
        let _ = responder.child.wait();
        assert!(responder.ask("hello").is_err());
    }
}
